"""Compiled parser of a Parquet file's footer: the column chunks of its row groups.

Arrow's library reads footers too, but it aborts the process at the metadata of a column chunk that
is encrypted or contradicts itself. So offsets and sizes of column chunks are read here, from the same
bytes: a struct in Thrift's compact protocol, see `page_headers`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from numba import njit

from eai_notebook.compiled.jit import compiled
from eai_notebook.compiled.varint import varint

if TYPE_CHECKING:
    from numpy.typing import NDArray

ROWS, FIRST, COLUMNS = range(3)
"""Fields of a row group: its rows, the index of its first column chunk, their number."""

(
    TYPE,
    CODEC,
    VALUES,
    UNCOMPRESSED_SIZE,
    COMPRESSED_SIZE,
    DATA_OFFSET,
    DICTIONARY_OFFSET,
    ENCODINGS,
    STATE,
    LEVEL_COUNTS,
    BOUND_SIZE,
) = range(11)
"""Fields of a column chunk; the encodings are a bit mask.

`LEVEL_COUNTS` is the length of the definition level histogram, `BOUND_SIZE` the bytes of the smallest
and largest value in the statistics; 0 if there are none.
"""

GROUP_FIELDS: Final = 3
COLUMN_FIELDS: Final = 11

HAS_METADATA, ENCRYPTED, IN_OTHER_FILE, NOT_FLAT = 1, 2, 4, 8
"""Bits of `STATE`: the chunk has metadata, is encrypted, is in another file, or has statistics
that a column of single numbers cannot have."""

# Field numbers in parquet.thrift.
_GROUPS = 4
_GROUP_COLUMNS, _GROUP_ROWS = 1, 3
_FILE_PATH, _META_DATA, _CRYPTO, _ENCRYPTED_META_DATA = 1, 3, 8, 9
_ENCODING_LIST, _STATISTICS, _SIZES = 2, 12, 16
_GEOSPATIAL = 17
_BOUNDS: Final = (1, 2, 5, 6)
_TEXT_BYTES, _REPETITIONS, _DEFINITIONS = 1, 2, 3

_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY = range(1, 9)
_LIST, _SET, _MAP, _STRUCT = range(9, 13)
_WORD: Final = 8
_LONG_LIST: Final = 15
_MAX_DEPTH: Final = 32
_MAX_ENCODING: Final = 62  # the highest bit of the mask; all unknown encodings share it

_PHYSICAL: Final = (
    "BOOLEAN",
    "INT32",
    "INT64",
    "INT96",
    "FLOAT",
    "DOUBLE",
    "BYTE_ARRAY",
    "FIXED_LEN_BYTE_ARRAY",
)
_WIDTHS: Final = {"INT32": 4, "FLOAT": 4, "INT64": 8, "DOUBLE": 8}
_CODECS: Final = (
    "UNCOMPRESSED",
    "SNAPPY",
    "GZIP",
    "LZO",
    "BROTLI",
    "LZ4",
    "ZSTD",
    "LZ4_RAW",
)
_ENCODING_NAMES: Final = {0: "PLAIN", 2: "PLAIN_DICTIONARY", 3: "RLE", 8: "RLE_DICTIONARY"}


@njit(inline="always")
def _signed(value: Any) -> Any:
    return np.int64(value >> np.uint64(1)) ^ -np.int64(value & np.uint64(1))


@njit
def _field(data: Any, at: Any, end: Any, last: Any) -> Any:
    """Return a field's type, its number and the offset of its value; type 0 ends a struct, -1 is an error."""
    if not 0 <= at < end:
        return np.int64(-1), np.int64(0), np.int64(-1)
    byte = np.int64(data[at])
    at += 1
    if byte == 0:
        return np.int64(0), np.int64(0), np.int64(at)
    if byte >> 4:
        return np.int64(byte & 15), np.int64(last + (byte >> 4)), np.int64(at)
    number, at = varint(data, at, end)
    kind = np.int64(byte & 15) if at >= 0 else np.int64(-1)
    return kind, _signed(number), np.int64(at)


@njit
def _list(data: Any, at: Any, end: Any) -> Any:
    """Return the type, the number and the offset of a list's items; offset -1 if it is damaged."""
    if not 0 <= at < end:
        return np.int64(0), np.int64(0), np.int64(-1)
    byte = np.int64(data[at])
    at += 1
    size = np.int64(byte >> 4)
    if size == _LONG_LIST:
        number, at = varint(data, at, end)
        if at < 0 or number > np.uint64(end - at):  # each item takes at least a byte
            return np.int64(0), np.int64(0), np.int64(-1)
        size = np.int64(number)
    return np.int64(byte & 15), size, np.int64(at)


@njit
def _skip_value(data: Any, at: Any, end: Any, kind: Any) -> Any:  # noqa: C901, PLR0911, PLR0912, PLR0915
    """Return the end of a value of any type; -1 if it is damaged.

    Nested values are on a stack: for a struct `left` is -1; for a list it is the number of items
    that follow, of type `items`; a map alternates between key type and value type.
    """
    left = np.empty(_MAX_DEPTH, np.int64)
    items = np.empty(_MAX_DEPTH, np.int64)
    others = np.empty(_MAX_DEPTH, np.int64)
    depth = 0
    at, kind = np.int64(at), np.int64(kind)
    while True:
        if not 0 <= at <= end:
            return np.int64(-1)
        if kind in (_I16, _I32, _I64):
            _, at = varint(data, at, end)
        elif kind == _BYTE:
            at += 1
        elif kind == _DOUBLE:
            at += _WORD
        elif kind == _BINARY:
            size, at = varint(data, at, end)
            if at < 0 or size > np.uint64(end - at):
                return np.int64(-1)
            at += np.int64(size)
        elif kind in (_LIST, _SET, _MAP, _STRUCT):
            if depth == _MAX_DEPTH:
                return np.int64(-1)
            if kind == _STRUCT:
                left[depth] = -1
            elif kind == _MAP:
                size, at = varint(data, at, end)
                if at < 0 or size > np.uint64(end - at):
                    return np.int64(-1)
                left[depth] = 2 * np.int64(size)
                if size:
                    if at >= end:
                        return np.int64(-1)
                    items[depth], others[depth] = np.int64(data[at]) >> 4, np.int64(data[at]) & 15
                    at += 1
            else:
                item, count, at = _list(data, at, end)
                if at < 0:
                    return np.int64(-1)
                items[depth], others[depth], left[depth] = item, item, count
            depth += 1
        elif kind not in (_TRUE, _FALSE):
            return np.int64(-1)
        if not 0 <= at <= end:
            return np.int64(-1)
        # Find the next value, or leave the values that have ended.
        while True:
            if depth == 0:
                return at
            top = depth - 1
            if left[top] < 0:
                kind, _, at = _field(data, at, end, np.int64(0))
                if kind < 0:
                    return np.int64(-1)
                if kind:
                    break
                depth -= 1
            elif left[top] == 0:
                depth -= 1
            else:
                left[top] -= 1
                kind = items[top]
                items[top], others[top] = others[top], items[top]
                # (Booleans in a list take a byte each.)
                kind = np.int64(_BYTE) if kind in (_TRUE, _FALSE) else kind
                break


@njit
def _size_statistics(data: Any, at: Any, end: Any, column: Any) -> Any:
    """Store what SizeStatistics say about levels, and return their end; -1 if they are damaged."""
    last = np.int64(0)
    while True:
        kind, last, at = _field(data, at, end, last)
        if kind <= 0:
            return at if kind == 0 else np.int64(-1)
        if kind == _LIST and last in (_REPETITIONS, _DEFINITIONS):
            _, count, _ = _list(data, at, end)
            if last == _DEFINITIONS:
                column[LEVEL_COUNTS] = count
            elif count > 1:
                column[STATE] |= NOT_FLAT
        if last == _TEXT_BYTES:
            column[STATE] |= NOT_FLAT
        at = _skip_value(data, at, end, kind)
        if at < 0:
            return np.int64(-1)


@njit
def _statistics(data: Any, at: Any, end: Any, column: Any) -> Any:
    """Store the size of the bounds, and return the end of the statistics; -1 if they are damaged."""
    last = np.int64(0)
    while True:
        kind, last, at = _field(data, at, end, last)
        if kind <= 0:
            return at if kind == 0 else np.int64(-1)
        if kind == _BINARY and last in _BOUNDS:
            size, _ = varint(data, at, end)
            # (Bounds of a column of numbers are all as long as a number.)
            if size == 0 or size > _WORD or column[BOUND_SIZE] not in (0, np.int64(size)):
                column[STATE] |= NOT_FLAT
            else:
                column[BOUND_SIZE] = np.int64(size)
        at = _skip_value(data, at, end, kind)
        if at < 0:
            return np.int64(-1)


@njit
def _metadata(  # noqa: C901, PLR0912 - one field after the other
    data: Any, at: Any, end: Any, column: Any
) -> Any:
    """Store the fields of ColumnMetaData, and return its end; -1 if it is damaged."""
    last = np.int64(0)
    while True:
        kind, last, at = _field(data, at, end, last)
        if kind <= 0:
            return at if kind == 0 else np.int64(-1)
        if kind == _LIST and last == _ENCODING_LIST:
            item, count, at = _list(data, at, end)
            if at < 0 or item != _I32:
                return np.int64(-1)
            column[ENCODINGS] = 0
            for _ in range(count):
                number, at = varint(data, at, end)
                if at < 0:
                    return np.int64(-1)
                known = 0 <= _signed(number) < _MAX_ENCODING
                column[ENCODINGS] |= np.int64(1) << (_signed(number) if known else _MAX_ENCODING)
            continue
        if kind == _STRUCT and last == _SIZES:
            at = _size_statistics(data, at, end, column)
            if at < 0:
                return np.int64(-1)
            continue
        if kind == _STRUCT and last == _STATISTICS:
            at = _statistics(data, at, end, column)
            if at < 0:
                return np.int64(-1)
            continue
        if last == _GEOSPATIAL:
            column[STATE] |= NOT_FLAT
        index = -1
        if kind == _I32 and last == 1:
            index = TYPE
        elif kind == _I32 and last == 4:  # noqa: PLR2004 - field number in parquet.thrift
            index = CODEC
        elif kind == _I64 and 5 <= last <= 7:  # noqa: PLR2004
            index = VALUES + last - 5
        elif kind == _I64 and last == 9:  # noqa: PLR2004
            index = DATA_OFFSET
        elif kind == _I64 and last == 11:  # noqa: PLR2004
            index = DICTIONARY_OFFSET
        if index < 0:
            at = _skip_value(data, at, end, kind)
        else:
            number, at = varint(data, at, end)
            column[index] = _signed(number)
        if at < 0:
            return np.int64(-1)


@njit
def _column(data: Any, at: Any, end: Any, column: Any) -> Any:
    """Store the fields of a ColumnChunk, and return its end; -1 if it is damaged."""
    column[:] = -1
    column[ENCODINGS] = column[STATE] = column[DICTIONARY_OFFSET] = 0
    column[LEVEL_COUNTS] = column[BOUND_SIZE] = 0
    last = np.int64(0)
    while True:
        kind, last, at = _field(data, at, end, last)
        if kind <= 0:
            return at if kind == 0 else np.int64(-1)
        if kind == _STRUCT and last == _META_DATA:
            column[STATE] |= HAS_METADATA
            at = _metadata(data, at, end, column)
        else:
            if last in (_CRYPTO, _ENCRYPTED_META_DATA):
                column[STATE] |= ENCRYPTED
            if last == _FILE_PATH:
                column[STATE] |= IN_OTHER_FILE
            at = _skip_value(data, at, end, kind)
        if at < 0:
            return np.int64(-1)


@njit
def _group(data: Any, at: Any, end: Any, group: Any, columns: Any, found: Any, spare: Any) -> Any:
    """Store the fields of a RowGroup and its chunks, and return its end; -1 if it is damaged."""
    group[ROWS], group[FIRST], group[COLUMNS] = -1, found[1], 0
    last = np.int64(0)
    while True:
        kind, last, at = _field(data, at, end, last)
        if kind <= 0:
            return at if kind == 0 else np.int64(-1)
        if kind == _LIST and last == _GROUP_COLUMNS:
            item, count, at = _list(data, at, end)
            if at < 0 or item != _STRUCT or group[COLUMNS]:
                return np.int64(-1)
            group[COLUMNS] = count
            for _ in range(count):
                column = columns[found[1]] if found[1] < len(columns) else spare
                at = _column(data, at, end, column)
                if at < 0:
                    return np.int64(-1)
                found[1] += 1
        elif kind == _I64 and last == _GROUP_ROWS:
            number, at = varint(data, at, end)
            group[ROWS] = _signed(number)
        else:
            at = _skip_value(data, at, end, kind)
        if at < 0:
            return np.int64(-1)


@compiled
def read_footer(
    data: NDArray[np.uint8], groups: NDArray[np.int64], columns: NDArray[np.int64]
) -> tuple[int, int]:
    """Store row groups and column chunks as far as they fit, and return how many there are.

    -1 if the footer is damaged.
    """
    found = np.zeros(2, np.int64)
    spare, spare_group = np.empty(COLUMN_FIELDS, np.int64), np.empty(GROUP_FIELDS, np.int64)
    at, end, last = np.int64(0), np.int64(len(data)), np.int64(0)
    seen = False
    while True:
        kind, last, at = _field(data, at, end, last)
        if kind == 0:
            return found[0], found[1]
        if kind < 0:
            return np.int64(-1), np.int64(-1)
        if kind == _LIST and last == _GROUPS:
            item, count, at = _list(data, at, end)
            if at < 0 or seen or (count and item != _STRUCT):
                return np.int64(-1), np.int64(-1)
            seen = True
            for _ in range(count):
                group = groups[found[0]] if found[0] < len(groups) else spare_group
                at = _group(data, at, end, group, columns, found, spare)
                if at < 0:
                    return np.int64(-1), np.int64(-1)
                found[0] += 1
        else:
            at = _skip_value(data, at, end, kind)
        if at < 0:
            return np.int64(-1), np.int64(-1)


class Chunk(NamedTuple):
    """A column chunk, with the attribute names of `pyarrow.parquet.ColumnChunkMetaData`.

    ``path_in_schema`` is None if the column is nested.
    """

    path_in_schema: str | None
    physical_type: str
    compression: str
    encodings: tuple[str, ...]
    num_values: int
    total_compressed_size: int
    total_uncompressed_size: int
    begin: int
    state: int
    levels: int
    bound_size: int

    def is_flat(self, most_level: int) -> bool:
        """Return whether the statistics allow a column of numbers that is not nested.

        Bounds that are no numbers of its type make Arrow refuse the column.
        """
        return (
            self.state == HAS_METADATA
            and self.levels in {0, most_level + 1}
            and self.bound_size in {0, _WIDTHS.get(self.physical_type)}
        )

    def lies_in(self, size: int) -> bool:
        """Return whether all its bytes lie within a file of that size."""
        return (
            self.state | NOT_FLAT == HAS_METADATA | NOT_FLAT
            and 0 <= self.total_compressed_size <= size
            and 0 < self.begin <= size - self.total_compressed_size
        )


class Chunks(NamedTuple):
    """The column chunks of a row group, with the attributes of `pyarrow.parquet.RowGroupMetaData`."""

    chunks: tuple[Chunk, ...]

    @property
    def num_columns(self) -> int:
        """The number of column chunks."""
        return len(self.chunks)

    def column(self, index: int) -> Chunk:
        """Return a column chunk."""
        return self.chunks[index]


def parse_footer(data: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """Return a footer's row groups and column chunks, as arrays; None if the footer is damaged."""
    groups = np.empty((8, GROUP_FIELDS), np.int64)
    columns = np.empty((256, COLUMN_FIELDS), np.int64)
    count, all_columns = read_footer(data, groups, columns)
    if count > len(groups) or all_columns > len(columns):
        groups = np.empty((count, GROUP_FIELDS), np.int64)
        columns = np.empty((all_columns, COLUMN_FIELDS), np.int64)
        count, all_columns = read_footer(data, groups, columns)
    return None if count < 0 else (groups[:count], columns[:all_columns])


def chunk_of(column: NDArray[np.int64], name: str | None) -> Chunk:
    """Return a column chunk, given its fields and its name."""
    kind, codec, values, uncompressed, compressed, data, dictionary, *rest = column.tolist()
    bits, state, levels, bound_size = rest
    begin = min(dictionary, data) if dictionary > 0 else data
    return Chunk(
        name,
        _PHYSICAL[kind] if 0 <= kind < len(_PHYSICAL) else "",
        _CODECS[codec] if 0 <= codec < len(_CODECS) else "",
        _encodings(bits),
        values,
        compressed,
        uncompressed,
        begin,
        state,
        levels,
        bound_size,
    )


def _encodings(bits: int) -> tuple[str, ...]:
    return tuple(
        _ENCODING_NAMES.get(number, "other")
        for number in range(bits.bit_length())
        if bits >> number & 1
    )
