"""The footer of a Parquet file: where its row groups' columns lie; compiled, checked.

Arrow's library reads footers too, and says what the columns are. But where it describes a column
of a row group it cannot raise an error: at one that is encrypted or contradicts itself, it ends the
process. So the places of columns are read here, from the same bytes: a struct in Thrift's compact
protocol, as `parquet_pages` describes it.
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
"""What is known of a row group: its rows, its first column among all, and how many it has."""

TYPE, CODEC, VALUES, UNPACKED, PACKED, DATA, DICTIONARY, ENCODINGS, STATE, LEVELS = range(10)
"""What is known of a column of a row group; the encodings are bits.

`LEVELS` is how many definition levels there are statistics of, 0 if there are none.
"""

GROUP_FIELDS: Final = 3
COLUMN_FIELDS: Final = 10

DESCRIBED, ENCRYPTED, ELSEWHERE, ODD = 1, 2, 4, 8
"""Bits of `STATE`: it is described, it is encrypted, its bytes are in another file, it has
statistics that columns of single numbers cannot have."""

# Fields of the structs, as parquet.thrift numbers them.
_GROUPS = 4
_GROUP_COLUMNS, _GROUP_ROWS = 1, 3
_FILE_PATH, _META_DATA, _CRYPTO, _ENCRYPTED_META_DATA = 1, 3, 8, 9
_ENCODING_LIST, _SIZES = 2, 16
_TEXT_BYTES, _REPETITIONS, _DEFINITIONS = 1, 2, 3

_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY = range(1, 9)
_LIST, _SET, _MAP, _STRUCT = range(9, 13)
_WORD: Final = 8
_LONG_LIST: Final = 15
_DEEPEST: Final = 32
_MOST_ENCODINGS: Final = 62  # that a word has bits for

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
def _field(text: Any, at: Any, end: Any, last: Any) -> Any:
    """Return a field's type and number, and where its value begins: type 0 at a struct's end, -1 if bad."""
    if not 0 <= at < end:
        return np.int64(-1), np.int64(0), np.int64(-1)
    byte = np.int64(text[at])
    at += 1
    if byte == 0:
        return np.int64(0), np.int64(0), np.int64(at)
    if byte >> 4:
        return np.int64(byte & 15), np.int64(last + (byte >> 4)), np.int64(at)
    number, at = varint(text, at, end)
    kind = np.int64(byte & 15) if at >= 0 else np.int64(-1)
    return kind, _signed(number), np.int64(at)


@njit
def _list(text: Any, at: Any, end: Any) -> Any:
    """Return the type of a list's items, how many there are, and where they begin; -1 if bad."""
    if not 0 <= at < end:
        return np.int64(0), np.int64(0), np.int64(-1)
    byte = np.int64(text[at])
    at += 1
    size = np.int64(byte >> 4)
    if size == _LONG_LIST:
        number, at = varint(text, at, end)
        if at < 0 or number > np.uint64(end - at):  # each item takes a byte or more
            return np.int64(0), np.int64(0), np.int64(-1)
        size = np.int64(number)
    return np.int64(byte & 15), size, np.int64(at)


@njit
def _past(text: Any, at: Any, end: Any, kind: Any) -> Any:  # noqa: C901, PLR0911, PLR0912, PLR0915
    """Return where a value of any type ends; -1 if it does not.

    What it consists of is kept on a stack: of a struct -1 and the number of its last field, of a
    list how many items are left, and their type; of a map both in turn.
    """
    left = np.empty(_DEEPEST, np.int64)
    items = np.empty(_DEEPEST, np.int64)
    others = np.empty(_DEEPEST, np.int64)
    depth = 0
    at, kind = np.int64(at), np.int64(kind)
    while True:
        if not 0 <= at <= end:
            return np.int64(-1)
        if kind in (_I16, _I32, _I64):
            _, at = varint(text, at, end)
        elif kind == _BYTE:
            at += 1
        elif kind == _DOUBLE:
            at += _WORD
        elif kind == _BINARY:
            size, at = varint(text, at, end)
            if at < 0 or size > np.uint64(end - at):
                return np.int64(-1)
            at += np.int64(size)
        elif kind in (_LIST, _SET, _MAP, _STRUCT):
            if depth == _DEEPEST:
                return np.int64(-1)
            if kind == _STRUCT:
                left[depth] = -1
            elif kind == _MAP:
                size, at = varint(text, at, end)
                if at < 0 or size > np.uint64(end - at):
                    return np.int64(-1)
                left[depth] = 2 * np.int64(size)
                if size:
                    if at >= end:
                        return np.int64(-1)
                    items[depth], others[depth] = np.int64(text[at]) >> 4, np.int64(text[at]) & 15
                    at += 1
            else:
                item, count, at = _list(text, at, end)
                if at < 0:
                    return np.int64(-1)
                items[depth], others[depth], left[depth] = item, item, count
            depth += 1
        elif kind not in (_TRUE, _FALSE):
            return np.int64(-1)
        if not 0 <= at <= end:
            return np.int64(-1)
        # What comes next?
        while True:
            if depth == 0:
                return at
            top = depth - 1
            if left[top] < 0:
                kind, _, at = _field(text, at, end, np.int64(0))
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
                # (Where they stand alone, truth values take a byte.)
                kind = np.int64(_BYTE) if kind in (_TRUE, _FALSE) else kind
                break


@njit
def _sizes(text: Any, at: Any, end: Any, column: Any) -> Any:
    """Note what statistics say of a column's levels, and return where they end; -1 if they do not."""
    last = np.int64(0)
    while True:
        kind, last, at = _field(text, at, end, last)
        if kind <= 0:
            return at if kind == 0 else np.int64(-1)
        if kind == _LIST and last in (_REPETITIONS, _DEFINITIONS):
            _, count, _ = _list(text, at, end)
            if last == _DEFINITIONS:
                column[LEVELS] = count
            elif count > 1:
                column[STATE] |= ODD
        if last == _TEXT_BYTES:
            column[STATE] |= ODD
        at = _past(text, at, end, kind)
        if at < 0:
            return np.int64(-1)


@njit
def _described(  # noqa: C901, PLR0912 - one field after the other
    text: Any, at: Any, end: Any, column: Any
) -> Any:
    """Note what is said of a column's data, and return where that ends; -1 if it does not."""
    last = np.int64(0)
    while True:
        kind, last, at = _field(text, at, end, last)
        if kind <= 0:
            return at if kind == 0 else np.int64(-1)
        if kind == _LIST and last == _ENCODING_LIST:
            item, count, at = _list(text, at, end)
            if at < 0 or item != _I32:
                return np.int64(-1)
            column[ENCODINGS] = 0
            for _ in range(count):
                number, at = varint(text, at, end)
                if at < 0:
                    return np.int64(-1)
                known = 0 <= _signed(number) < _MOST_ENCODINGS
                column[ENCODINGS] |= np.int64(1) << (_signed(number) if known else _MOST_ENCODINGS)
            continue
        if kind == _STRUCT and last == _SIZES:
            at = _sizes(text, at, end, column)
            if at < 0:
                return np.int64(-1)
            continue
        place = -1
        if kind == _I32 and last == 1:
            place = TYPE
        elif kind == _I32 and last == 4:  # noqa: PLR2004 - as parquet.thrift numbers it
            place = CODEC
        elif kind == _I64 and 5 <= last <= 7:  # noqa: PLR2004
            place = VALUES + last - 5
        elif kind == _I64 and last == 9:  # noqa: PLR2004
            place = DATA
        elif kind == _I64 and last == 11:  # noqa: PLR2004
            place = DICTIONARY
        if place < 0:
            at = _past(text, at, end, kind)
        else:
            number, at = varint(text, at, end)
            column[place] = _signed(number)
        if at < 0:
            return np.int64(-1)


@njit
def _column(text: Any, at: Any, end: Any, column: Any) -> Any:
    """Note what is said of a column of a row group, and return where that ends; -1 if it does not."""
    column[:] = -1
    column[ENCODINGS] = column[STATE] = column[DICTIONARY] = column[LEVELS] = 0
    last = np.int64(0)
    while True:
        kind, last, at = _field(text, at, end, last)
        if kind <= 0:
            return at if kind == 0 else np.int64(-1)
        if kind == _STRUCT and last == _META_DATA:
            column[STATE] |= DESCRIBED
            at = _described(text, at, end, column)
        else:
            if last in (_CRYPTO, _ENCRYPTED_META_DATA):
                column[STATE] |= ENCRYPTED
            if last == _FILE_PATH:
                column[STATE] |= ELSEWHERE
            at = _past(text, at, end, kind)
        if at < 0:
            return np.int64(-1)


@njit
def _group(text: Any, at: Any, end: Any, group: Any, columns: Any, found: Any, spare: Any) -> Any:
    """Note what is said of a row group, and return where that ends; -1 if it does not."""
    group[ROWS], group[FIRST], group[COLUMNS] = -1, found[1], 0
    last = np.int64(0)
    while True:
        kind, last, at = _field(text, at, end, last)
        if kind <= 0:
            return at if kind == 0 else np.int64(-1)
        if kind == _LIST and last == _GROUP_COLUMNS:
            item, count, at = _list(text, at, end)
            if at < 0 or item != _STRUCT or group[COLUMNS]:
                return np.int64(-1)
            group[COLUMNS] = count
            for _ in range(count):
                column = columns[found[1]] if found[1] < len(columns) else spare
                at = _column(text, at, end, column)
                if at < 0:
                    return np.int64(-1)
                found[1] += 1
        elif kind == _I64 and last == _GROUP_ROWS:
            number, at = varint(text, at, end)
            group[ROWS] = _signed(number)
        else:
            at = _past(text, at, end, kind)
        if at < 0:
            return np.int64(-1)


@compiled
def read_footer(
    text: NDArray[np.uint8], groups: NDArray[np.int64], columns: NDArray[np.int64]
) -> tuple[int, int]:
    """Note as many row groups and columns as there is room for, and return how many there are.

    -1 if it is no footer.
    """
    found = np.zeros(2, np.int64)
    spare, spare_group = np.empty(COLUMN_FIELDS, np.int64), np.empty(GROUP_FIELDS, np.int64)
    at, end, last = np.int64(0), np.int64(len(text)), np.int64(0)
    seen = False
    while True:
        kind, last, at = _field(text, at, end, last)
        if kind == 0:
            return found[0], found[1]
        if kind < 0:
            return np.int64(-1), np.int64(-1)
        if kind == _LIST and last == _GROUPS:
            item, count, at = _list(text, at, end)
            if at < 0 or seen or (count and item != _STRUCT):
                return np.int64(-1), np.int64(-1)
            seen = True
            for _ in range(count):
                group = groups[found[0]] if found[0] < len(groups) else spare_group
                at = _group(text, at, end, group, columns, found, spare)
                if at < 0:
                    return np.int64(-1), np.int64(-1)
                found[0] += 1
        else:
            at = _past(text, at, end, kind)
        if at < 0:
            return np.int64(-1), np.int64(-1)


class Chunk(NamedTuple):
    """A column of a row group, with the names of `pyarrow.parquet.ColumnChunkMetaData`.

    ``path_in_schema`` is None where the column is part of a nested one.
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

    def is_single(self, most_level: int) -> bool:
        """Whether statistics agree that its definition levels go up to one, and nothing repeats."""
        return self.state == DESCRIBED and self.levels in {0, most_level + 1}

    def lies_in(self, size: int) -> bool:
        """Whether all its bytes are in a file of some size, and nowhere else."""
        return (
            self.state | ODD == DESCRIBED | ODD
            and 0 <= self.total_compressed_size <= size
            and 0 < self.begin <= size - self.total_compressed_size
        )


class Chunks(NamedTuple):
    """The columns of a row group, with the names of `pyarrow.parquet.RowGroupMetaData`."""

    chunks: tuple[Chunk, ...]

    @property
    def num_columns(self) -> int:
        """How many there are."""
        return len(self.chunks)

    def column(self, place: int) -> Chunk:
        """Return one of them."""
        return self.chunks[place]


def groups_in(text: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """Return the row groups and all their columns of a footer's bytes; None if they are no footer."""
    groups = np.empty((8, GROUP_FIELDS), np.int64)
    columns = np.empty((256, COLUMN_FIELDS), np.int64)
    count, all_columns = read_footer(text, groups, columns)
    if count > len(groups) or all_columns > len(columns):
        groups = np.empty((count, GROUP_FIELDS), np.int64)
        columns = np.empty((all_columns, COLUMN_FIELDS), np.int64)
        count, all_columns = read_footer(text, groups, columns)
    return None if count < 0 else (groups[:count], columns[:all_columns])


def chunk_of(column: NDArray[np.int64], name: str | None) -> Chunk:
    """Return what is known of a column of a row group, in words."""
    kind, codec, values, unpacked, packed, data, dictionary, bits, state, levels = column.tolist()
    begin = min(dictionary, data) if dictionary > 0 else data
    return Chunk(
        name,
        _PHYSICAL[kind] if 0 <= kind < len(_PHYSICAL) else "",
        _CODECS[codec] if 0 <= codec < len(_CODECS) else "",
        _encodings(bits),
        values,
        packed,
        unpacked,
        begin,
        state,
        levels,
    )


def _encodings(bits: int) -> tuple[str, ...]:
    return tuple(
        _ENCODING_NAMES.get(number, "other")
        for number in range(bits.bit_length())
        if bits >> number & 1
    )
