"""The footer of an Arrow file: where its record batches are.

Arrow's library tells neither places nor row counts without reading the data. Both are in tables
that FlatBuffers lays out: a table begins with the distance back to its list of fields, which
holds for each the distance from the table, or 0.
"""

from __future__ import annotations

import functools
import struct
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from eai_notebook.errors import EaiError

if TYPE_CHECKING:
    from eai_notebook.io.sources.file import File

_MAGIC: Final = b"ARROW1"
_TAIL: Final = 4 + len(_MAGIC)  # the footer's length, and the magic number
_BLOCK: Final = struct.Struct("<qi4xq")
_PREFIX: Final = 8  # of a message: a mark, and the length of what describes it

# Places in the tables, in the order of Arrow's File.fbs and Message.fbs.
_DICTIONARIES, _BATCHES = 2, 3
_HEADER, _ROWS = 2, 0


class Block(NamedTuple):
    """Where a record batch lies: what describes it, then its columns."""

    begin: int
    head: int
    body: int


class Blocks(NamedTuple):
    """The record batches of a file, and whether there are dictionaries beside them."""

    batches: tuple[Block, ...]
    dictionaries: bool


@functools.lru_cache(maxsize=4096)
def blocks_of(file: File) -> Blocks:
    """Return where the record batches of a file lie.

    Raises:
        EaiError: It is no Arrow file, or cut off.
    """
    try:
        tail = _bytes(file, file.size - _TAIL, file.size)
        if tail[4:] != _MAGIC:
            raise _no_arrow(file)
        length = struct.unpack_from("<i", tail)[0]
        footer = _bytes(file, file.size - _TAIL - length, file.size - _TAIL)
        table = _at(footer, 0)
        batches = tuple(_vector(footer, _field(footer, table, _BATCHES)))
        return Blocks(batches, bool(_vector(footer, _field(footer, table, _DICTIONARIES))))
    except (struct.error, ValueError) as error:
        raise _no_arrow(file) from error


def rows_of(file: File, block: Block) -> int:
    """Return how many rows a record batch has.

    Raises:
        EaiError: The file is damaged there.
    """
    try:
        head = _bytes(file, block.begin, block.begin + block.head)[_PREFIX:]
        batch = _at(head, _field(head, _at(head, 0), _HEADER))
        place = _field(head, batch, _ROWS)
        return int(struct.unpack_from("<q", head, place)[0]) if place else 0
    except (struct.error, ValueError) as error:
        raise _no_arrow(file) from error


def _bytes(file: File, begin: int, end: int) -> bytes:
    if not 0 <= begin <= end <= file.size:
        raise _no_arrow(file)
    memory = np.empty(end - begin, np.uint8)
    file.read_into(memory, begin)
    return memory.tobytes()


def _at(text: bytes, place: int) -> int:
    """Return where a reference leads."""
    return place + int(struct.unpack_from("<I", text, place)[0])


def _field(text: bytes, table: int, number: int) -> int:
    """Return where a field of a table lies; 0 if it has its default."""
    fields = table - int(struct.unpack_from("<i", text, table)[0])
    if 4 + 2 * number >= struct.unpack_from("<H", text, fields)[0]:
        return 0
    distance = int(struct.unpack_from("<H", text, fields + 4 + 2 * number)[0])
    return table + distance if distance else 0


def _vector(text: bytes, field: int) -> list[Block]:
    if not field:
        return []
    begin = _at(text, field)
    count = int(struct.unpack_from("<I", text, begin)[0])
    if begin + 4 + count * _BLOCK.size > len(text):
        raise ValueError
    return [Block(*_BLOCK.unpack_from(text, begin + 4 + at * _BLOCK.size)) for at in range(count)]


def _no_arrow(file: File) -> EaiError:
    return EaiError(
        f"{file} is no Arrow file or cut off",
        "copy or write it again; a stream of Arrow must be written as a file",
    )
