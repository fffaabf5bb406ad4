"""Parser of an Arrow file's footer: offsets and row counts of its record batches.

Arrow's library returns neither without reading the data. Both are in FlatBuffers tables: a table
begins with the distance back to its vtable, which holds for each field its distance from the
table, or 0. Every distance is checked before it is followed; Arrow's library checks the same
footer again when it opens the file.
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
_BUFFER: Final = 16  # bytes of the struct Buffer: offset and length
_CONTINUATION: Final = b"\xff\xff\xff\xff"
"""Precedes a message's length since format 0.15."""

_LARGEST: Final = 64 << 20  # bytes of a record batch's metadata
_LARGEST_FOOTER: Final = 256 << 20  # bytes; a record batch takes 24

# Field numbers in the tables, in the order of Arrow's File.fbs and Message.fbs.
_DICTIONARIES, _BATCHES = 2, 3
_HEADER_TYPE, _HEADER = 1, 2
_ROWS, _BUFFERS, _COMPRESSION = 0, 2, 3
_RECORD_BATCH: Final = 3  # in the enumeration MessageHeader


class Block(NamedTuple):
    """A record batch in the file: its offset, and the bytes of its metadata and of its columns."""

    begin: int
    head: int
    body: int


class Blocks(NamedTuple):
    """The record batches of a file, and whether it has dictionaries."""

    batches: tuple[Block, ...]
    dictionaries: bool


class _BatchMetadata(NamedTuple):
    """A record batch's rows, its buffers ``[buffers, (offset, length)]``, and their compression."""

    rows: int
    buffers: NDArray[np.int64]
    compressed: bool


@functools.lru_cache(maxsize=4096)
def blocks_of(file: File) -> Blocks:
    """Return the record batches of a file.

    Raises:
        EaiError: It is not an Arrow file, is cut off, or has offsets beyond its end.
    """
    try:
        if _bytes(file, 0, min(file.size, 4)) == b"FEA1":
            raise EaiError(
                f"{file} is a Feather file of version 1",
                "write it again with pyarrow.feather.write_feather, which writes version 2",
                code="feather-version-1",
            )
        footer = tail_of(file)[1][:-_TAIL].tobytes()
        table = _follow(footer, 0)
        batches = tuple(_blocks(footer, _field(footer, table, _BATCHES)))
        dictionaries = _blocks(footer, _field(footer, table, _DICTIONARIES))
    except (struct.error, ValueError) as error:
        raise not_arrow(file) from error
    for number, block in enumerate((*batches, *dictionaries)):
        if (
            block.begin < len(_MAGIC)
            or not len(_CONTINUATION) <= block.head <= _LARGEST
            or block.body < 0
            or block.begin + block.head + block.body > file.size
        ):
            raise not_arrow(file, f"record batch {number} has offset {block.begin:,}")
    return Blocks(batches, bool(dictionaries))


@functools.lru_cache(maxsize=4096)
def tail_of(file: File) -> tuple[int, NDArray[np.uint8]]:
    """Return the offset of a file's footer and all bytes from there on; cached for the file's parts.

    Raises:
        EaiError: It is not an Arrow file, or is cut off.
    """
    tail = _bytes(file, file.size - _TAIL, file.size)
    if tail[4:] != _MAGIC:
        raise not_arrow(file)
    length = struct.unpack_from("<i", tail)[0]
    begin = file.size - _TAIL - length
    if not 0 <= begin < file.size - _TAIL or length > _LARGEST_FOOTER:
        raise not_arrow(file)
    return begin, np.frombuffer(_bytes(file, begin, file.size), np.uint8)


def rows_of(file: File, number: int) -> int:
    """Return the number of rows of a record batch.

    Raises:
        EaiError: The record batch is damaged.
    """
    return _metadata(file, number).rows


def check_buffers(file: File, number: int) -> None:
    """Check that a record batch's buffers lie within it and fit into memory when decompressed.

    Raises:
        EaiError: A buffer exceeds the record batch, or the memory is too small.
    """
    block, batch = blocks_of(file).batches[number], _metadata(file, number)
    begins, sizes = batch.buffers[:, 0], batch.buffers[:, 1]
    # (This order of subtraction cannot overflow.)
    if (begins < 0).any() or (sizes < 0).any() or (sizes > block.body - begins).any():
        raise damaged_batch(file, number)
    if not batch.compressed:
        return
    total = 0
    for begin, size in batch.buffers.tolist():
        if size:
            offset = block.begin + block.head + begin
            prefix = _bytes(file, offset, offset + min(size, 8))
            length = int.from_bytes(prefix, "little", signed=True)
            if length < -1:  # (-1: this buffer is not compressed)
                raise damaged_batch(file, number)
            total += max(length, 0)
    check_memory(f"{file} record batch {number}", total)


@functools.lru_cache(maxsize=4096)
def _metadata(file: File, number: int) -> _BatchMetadata:
    block = blocks_of(file).batches[number]
    try:
        head = _bytes(file, block.begin, block.begin + block.head)
        head = head[8 if head.startswith(_CONTINUATION) else 4 :]
        message = _follow(head, 0)
        kind = _field(head, message, _HEADER_TYPE)
        batch = _follow(head, _field(head, message, _HEADER))
        is_batch = bool(kind) and head[kind] == _RECORD_BATCH
        rows_field = _field(head, batch, _ROWS)
        rows = _number("<q", head, rows_field) if rows_field else 0
        begin, count = _vector(head, _field(head, batch, _BUFFERS), _BUFFER)
        buffers = np.frombuffer(head, "<i8", 2 * count, begin).reshape(count, 2)
        compressed = bool(_field(head, batch, _COMPRESSION))
    except (struct.error, ValueError, IndexError) as error:
        raise damaged_batch(file, number) from error
    # A row takes at least one bit, unless it is compressed.
    if not is_batch or rows < 0 or (not compressed and rows > 8 * block.body):
        raise damaged_batch(file, number)
    return _BatchMetadata(rows, buffers.astype(np.int64), compressed)


def _bytes(file: File, begin: int, end: int) -> bytes:
    if not 0 <= begin <= end <= file.size:
        raise not_arrow(file)
    memory = np.empty(end - begin, np.uint8)
    file.read_into(memory, begin)
    return memory.tobytes()


def _number(form: str, data: bytes, offset: int) -> int:
    """Return the number at an offset; Python would count a negative one from the end."""
    if offset < 0:
        raise ValueError
    return int(struct.unpack_from(form, data, offset)[0])


def _follow(data: bytes, offset: int) -> int:
    """Return the offset that the reference at an offset points to."""
    target = offset + _number("<I", data, offset)
    if target >= len(data):
        raise ValueError
    return target


def _field(data: bytes, table: int, number: int) -> int:
    """Return the offset of a table's field; 0 if the field has its default value."""
    vtable = table - _number("<i", data, table)
    if 4 + 2 * number >= _number("<H", data, vtable):
        return 0
    distance = _number("<H", data, vtable + 4 + 2 * number)
    if table + distance >= len(data):
        raise ValueError
    return table + distance if distance else 0


def _vector(data: bytes, field: int, size: int) -> tuple[int, int]:
    """Return the offset of a vector's first item and the number of items of `size` bytes."""
    if not field:
        return 0, 0
    begin = _follow(data, field)
    count = _number("<I", data, begin)
    if begin + 4 + count * size > len(data):
        raise ValueError
    return begin + 4, count


def _blocks(data: bytes, field: int) -> list[Block]:
    begin, count = _vector(data, field, _BLOCK.size)
    return [Block(*_BLOCK.unpack_from(data, begin + i * _BLOCK.size)) for i in range(count)]


def damaged_batch(file: File, number: int, why: object = "") -> EaiError:
    """Return the error about a damaged record batch; `why` may be an exception."""
    offset = blocks_of(file).batches[number].begin
    return EaiError(
        f"{file} record batch {number} (byte {offset}) is damaged{_reason(why)}",
        "copy or write the file again",
        code="arrow-damaged",
    )


def not_arrow(file: File, why: object = "") -> EaiError:
    """Return the error about a file that is no Arrow file or has a damaged footer."""
    return EaiError(
        f"{file} is not an Arrow file or is cut off{_reason(why)}",
        "copy or write it again; an Arrow stream must be written as a file",
        code="arrow-damaged",
    )


def _reason(why: object) -> str:
    """Return the first line of a message or an exception in brackets, if there is one."""
    line = str(why).split("\n", maxsplit=1)[0].rstrip(".")
    if not line and isinstance(why, BaseException):
        line = type(why).__name__
    return f" ({line})" if line else ""
