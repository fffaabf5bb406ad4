"""The footer of an Arrow file: where its record batches are.

Arrow's library tells neither places nor row counts without reading the data. Both are in tables
that FlatBuffers lays out: a table begins with the distance back to its list of fields, which
holds for each the distance from the table, or 0. Every distance is checked here before it is
followed, and Arrow's library checks the same footer once more when it opens the file.
"""

from __future__ import annotations

import functools
import struct
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from eai_notebook.errors import EaiError
from eai_notebook.formats.bounds import check_memory

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from eai_notebook.io.sources.file import File

_MAGIC: Final = b"ARROW1"
_TAIL: Final = 4 + len(_MAGIC)  # the footer's length, and the magic number
_BLOCK: Final = struct.Struct("<qi4xq")
_BUFFER: Final = 16  # bytes of a buffer's description: where it begins, and its length
_MARK: Final = b"\xff\xff\xff\xff"
"""What a message begins with since format 0.15; before, with the length that follows it now."""

_LARGEST: Final = 64 << 20  # bytes of what describes a record batch

# Places in the tables, in the order of Arrow's File.fbs and Message.fbs.
_DICTIONARIES, _BATCHES = 2, 3
_HEADER_TYPE, _HEADER = 1, 2
_ROWS, _BUFFERS, _COMPRESSION = 0, 2, 3
_RECORD_BATCH: Final = 3  # among the types of headers


class Block(NamedTuple):
    """Where a record batch lies: what describes it, then its columns."""

    begin: int
    head: int
    body: int


class Blocks(NamedTuple):
    """The record batches of a file, and whether there are dictionaries beside them."""

    batches: tuple[Block, ...]
    dictionaries: bool


class _Batch(NamedTuple):
    """What describes a record batch: its rows, its buffers ``[buffers, 2]``, whether they are packed."""

    rows: int
    buffers: NDArray[np.int64]
    packed: bool


@functools.lru_cache(maxsize=4096)
def blocks_of(file: File) -> Blocks:
    """Return where the record batches of a file lie.

    Raises:
        EaiError: It is no Arrow file, or cut off, or says that they lie outside of it.
    """
    try:
        if _bytes(file, 0, min(file.size, 4)) == b"FEA1":
            raise EaiError(
                f"{file} is a Feather file of version 1",
                "write it again with pyarrow.feather.write_feather, which writes version 2",
                code="feather-version-1",
            )
        footer = tail_of(file)[1][:-_TAIL].tobytes()
        table = _at(footer, 0)
        batches = tuple(_blocks(footer, _field(footer, table, _BATCHES)))
        dictionaries = _blocks(footer, _field(footer, table, _DICTIONARIES))
    except (struct.error, ValueError) as error:
        raise no_arrow(file) from error
    for number, block in enumerate((*batches, *dictionaries)):
        if (
            block.begin < len(_MAGIC)
            or not len(_MARK) <= block.head <= _LARGEST
            or block.body < 0
            or block.begin + block.head + block.body > file.size
        ):
            raise no_arrow(file, f"record batch {number} would lie at byte {block.begin:,}")
    return Blocks(batches, bool(dictionaries))


@functools.lru_cache(maxsize=4096)
def tail_of(file: File) -> tuple[int, NDArray[np.uint8]]:
    """Return where a file's footer begins, and all its bytes from there on; kept: every part asks.

    Raises:
        EaiError: It is no Arrow file, or cut off.
    """
    tail = _bytes(file, file.size - _TAIL, file.size)
    if tail[4:] != _MAGIC:
        raise no_arrow(file)
    length = struct.unpack_from("<i", tail)[0]
    begin = file.size - _TAIL - length
    if not 0 <= begin < file.size - _TAIL:
        raise no_arrow(file)
    return begin, np.frombuffer(_bytes(file, begin, file.size), np.uint8)


def rows_of(file: File, number: int) -> int:
    """Return how many rows a record batch has.

    Raises:
        EaiError: The file is damaged there.
    """
    return _described(file, number).rows


def check_buffers(file: File, number: int) -> None:
    """Check that a record batch's buffers lie in it, and that there is room for them unpacked.

    Raises:
        EaiError: They do not, or there is none.
    """
    block, batch = blocks_of(file).batches[number], _described(file, number)
    begins, sizes = batch.buffers[:, 0], batch.buffers[:, 1]
    # (Compared this way round, nothing can overflow.)
    if (begins < 0).any() or (sizes < 0).any() or (sizes > block.body - begins).any():
        raise _no_batch(file, number)
    if not batch.packed:
        return
    need = 0
    for begin, size in batch.buffers.tolist():
        if size:
            at = block.begin + block.head + begin
            plain = int.from_bytes(_bytes(file, at, at + min(size, 8)), "little", signed=True)
            if plain < -1:  # (-1: it is not packed after all)
                raise _no_batch(file, number)
            need += max(plain, 0)
    check_memory(f"{file} record batch {number}", need)


@functools.lru_cache(maxsize=4096)
def _described(file: File, number: int) -> _Batch:
    block = blocks_of(file).batches[number]
    try:
        head = _bytes(file, block.begin, block.begin + block.head)
        head = head[8 if head.startswith(_MARK) else 4 :]
        message = _at(head, 0)
        kind = _field(head, message, _HEADER_TYPE)
        batch = _at(head, _field(head, message, _HEADER))
        right = bool(kind) and head[kind] == _RECORD_BATCH
        place = _field(head, batch, _ROWS)
        rows = int(_unpack("<q", head, place)) if place else 0
        begin, count = _vector(head, _field(head, batch, _BUFFERS), _BUFFER)
        buffers = np.frombuffer(head, "<i8", 2 * count, begin).reshape(count, 2)
        packed = bool(_field(head, batch, _COMPRESSION))
    except (struct.error, ValueError, IndexError) as error:
        raise _no_batch(file, number) from error
    # Each row takes a bit at least, unless it is packed.
    if not right or rows < 0 or (not packed and rows > 8 * block.body):
        raise _no_batch(file, number)
    return _Batch(rows, buffers.astype(np.int64), packed)


def _bytes(file: File, begin: int, end: int) -> bytes:
    if not 0 <= begin <= end <= file.size:
        raise no_arrow(file)
    memory = np.empty(end - begin, np.uint8)
    file.read_into(memory, begin)
    return memory.tobytes()


def _unpack(form: str, text: bytes, place: int) -> int:
    """Return a number; a place before the text would else be counted from its end."""
    if place < 0:
        raise ValueError
    return int(struct.unpack_from(form, text, place)[0])


def _at(text: bytes, place: int) -> int:
    """Return where a reference leads."""
    to = place + _unpack("<I", text, place)
    if to >= len(text):
        raise ValueError
    return to


def _field(text: bytes, table: int, number: int) -> int:
    """Return where a field of a table lies; 0 if it has its default."""
    fields = table - _unpack("<i", text, table)
    if 4 + 2 * number >= _unpack("<H", text, fields):
        return 0
    distance = _unpack("<H", text, fields + 4 + 2 * number)
    if table + distance >= len(text):
        raise ValueError
    return table + distance if distance else 0


def _vector(text: bytes, field: int, size: int) -> tuple[int, int]:
    """Return where the items of a vector begin, each of some bytes, and how many there are."""
    if not field:
        return 0, 0
    begin = _at(text, field)
    count = _unpack("<I", text, begin)
    if begin + 4 + count * size > len(text):
        raise ValueError
    return begin + 4, count


def _blocks(text: bytes, field: int) -> list[Block]:
    begin, count = _vector(text, field, _BLOCK.size)
    return [Block(*_BLOCK.unpack_from(text, begin + at * _BLOCK.size)) for at in range(count)]


def _no_batch(file: File, number: int) -> EaiError:
    return EaiError(
        f"{file} record batch {number} (byte {blocks_of(file).batches[number].begin}) is damaged",
        "copy or write the file again",
        code="arrow-damaged",
    )


def no_arrow(file: File, why: str = "") -> EaiError:
    """Return the error about a file that is none, or that contradicts itself."""
    line = why.split("\n", maxsplit=1)[0].rstrip(".")
    return EaiError(
        f"{file} is no Arrow file or cut off" + (f" ({line})" if line else ""),
        "copy or write it again; a stream of Arrow must be written as a file",
        code="arrow-damaged",
    )
