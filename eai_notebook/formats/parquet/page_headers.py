"""Compiled parser of Parquet page headers.

A column chunk is a dictionary page, if it has one, and data pages. Each page begins with a header:
a struct in Thrift's compact protocol. A field begins with a byte that holds its type and the
difference of its number from the last one; a byte of 0 ends the struct. Integers are zigzag varints.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numba import njit

from eai_notebook.compiled.jit import compiled
from eai_notebook.compiled.varint import varint

if TYPE_CHECKING:
    from numpy.typing import NDArray

BEGIN, END, VALUES, NULLABLE = range(4)
"""Columns of the input: first byte, end, number of values, whether nulls are possible."""

(
    COLUMN,
    OFFSET,
    KIND,
    SIZE,
    COMPRESSED,
    COUNT,
    ENCODING,
    DEFINITION_ENCODING,
    REPETITION_ENCODING,
    SUBHEADERS,
) = range(10)
"""Columns of the result: the page's column, the offset of its bytes, and fields of its header.

`KIND`, `SIZE` and `COMPRESSED` are the header's first three fields. From `COUNT` on follow the
fields of its data page header, or the first two of its dictionary page header. `SUBHEADERS` is a
bit mask of the two that are present.
"""

FIELDS: Final = 10

DATA, DICTIONARY = 0, 2
"""The kinds of page, in Parquet's numbering."""

# Field numbers in parquet.thrift.
_HEADER_FIELDS, _DATA_HEADER, _DICTIONARY_HEADER = 3, 5, 7
_DATA_FIELDS = 4  # all are required

_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _STRUCT = 1, 2, 3, 4, 5, 6, 7, 8, 12
_WORD: Final = 8
_MAX_INT32: Final = (1 << 31) - 1
_MAX_DEPTH: Final = 2  # of structs: the statistics in a data page header


@njit(inline="always")
def _signed(value: Any) -> Any:
    return np.int64(value >> np.uint64(1)) ^ -np.int64(value & np.uint64(1))


@njit(inline="always")
def _skip_value(data: Any, at: Any, end: Any, kind: Any) -> Any:
    """Return the end of a value that is not used; -1 if its type is not expected."""
    if kind in (_TRUE, _FALSE):
        return at
    if kind == _BYTE:
        return at + 1
    if kind == _DOUBLE:
        return at + _WORD
    if kind == _BINARY:
        length, at = varint(data, at, end)
        return np.int64(-1) if at < 0 or length > np.uint64(end - at) else at + np.int64(length)
    return np.int64(-1)


@njit
def _read_header(  # noqa: C901, PLR0912 - one field after the other
    data: Any, at: Any, end: Any, page: Any
) -> Any:
    """Store the fields of a page header in `page` and return its end; -1 if it is damaged."""
    depth, last, outer = 0, np.int64(0), np.int64(0)
    while 0 <= at < end:
        byte = data[at]
        at += 1
        if byte == 0:
            if depth == 0:
                return np.int64(at)
            depth -= 1
            last = outer
            continue
        kind = byte & 15
        if byte >> 4:
            last += np.int64(byte >> 4)
        else:
            number, at = varint(data, at, end)
            if at < 0:
                return np.int64(-1)
            last = _signed(number)
        if kind == _STRUCT:
            if depth == _MAX_DEPTH:
                return np.int64(-1)
            if depth == 0 and last in (_DATA_HEADER, _DICTIONARY_HEADER):
                page[SUBHEADERS] |= last
            # (Deeper structs are skipped, so only the outermost field number is restored.)
            outer = last if depth == 0 else outer
            depth += 1
            last = np.int64(0)
        elif kind in (_I16, _I32, _I64):
            number, at = varint(data, at, end)
            if at < 0:
                return np.int64(-1)
            # (Parquet defines no fields of another width here.)
            if kind == _I32:
                _store(page, depth, outer, last, _signed(number))
        else:
            at = _skip_value(data, at, end, kind)
    return np.int64(-1)


@njit(inline="always")
def _store(page: Any, depth: Any, outer: Any, field: Any, number: Any) -> None:
    """Store a field of the page header, the data page header or the dictionary page header."""
    if depth == 0 and 0 < field <= _HEADER_FIELDS:
        page[KIND + field - 1] = number
    elif depth == 1 and (
        (outer == _DATA_HEADER and 0 < field <= _DATA_FIELDS)
        or (outer == _DICTIONARY_HEADER and 0 < field < _HEADER_FIELDS)
    ):
        page[COUNT + field - 1] = number


@compiled
def find_pages(  # noqa: C901, PLR0911 - each kind of damage ends it
    data: NDArray[np.uint8], columns: NDArray[np.int64], pages: NDArray[np.int64]
) -> int:
    """Store the pages of `columns` in `pages` as far as they fit, and return how many there are.

    -1 if a header is damaged, or a page's kind is not supported.
    """
    found = 0
    spare = np.empty(FIELDS, np.int64)
    for column in range(len(columns)):
        at, end = columns[column, BEGIN], columns[column, END]
        left = columns[column, VALUES]
        begun = False
        if not 0 <= at <= end <= len(data):
            return -1
        while left > 0:
            page = pages[found] if found < len(pages) else spare
            page[:] = -1
            page[SUBHEADERS] = 0
            at = _read_header(data, at, end, page)
            is_data = page[KIND] == DATA
            # (A column has at most one dictionary, before its data.)
            if at < 0 or not (is_data or (page[KIND] == DICTIONARY and not begun)):
                return -1
            if page[SUBHEADERS] != (_DATA_HEADER if is_data else _DICTIONARY_HEADER):
                return -1
            if is_data and (page[DEFINITION_ENCODING] < 0 or page[REPETITION_ENCODING] < 0):
                return -1
            begun = True
            if not (0 <= page[COMPRESSED] <= end - at and 0 <= page[SIZE] <= _MAX_INT32):
                return -1
            if not is_data <= page[COUNT] <= _MAX_INT32:
                return -1
            page[COLUMN] = column
            page[OFFSET] = at
            at += page[COMPRESSED]
            if is_data:
                left -= page[COUNT]
            found += 1
        if left < 0:
            return -1
    return found
