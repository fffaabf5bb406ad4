"""Compiled parser of Parquet page headers.

A column is a dictionary of its values, if it has one, and pages of data. Each begins with a header,
a struct in Thrift's compact protocol: fields that begin with the distance from the last one's
number and their type, up to a byte of 0; numbers as in protocol buffers, but zigzag.
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
"""What is known of a column: its bytes, its values, whether there might be nulls among them."""

COLUMN, PLACE, KIND, SIZE, PACKED, COUNT, ENCODING, LEVELS, REPEATS, HOLDS = range(10)
"""What is told of a page: the column it is of, where its bytes begin, and what its header says.

From `KIND` on as the first fields of the header stand there, and from `COUNT` on as those of what
it holds about data, or about a dictionary (of which the third is none of these); `HOLDS` has a bit
for each of the two that is there.
"""

FIELDS: Final = 10

DATA, DICTIONARY = 0, 2
"""The kinds of page, as Parquet numbers them."""

# Fields of the headers, as parquet.thrift numbers them.
_FIRST, _OF_DATA, _OF_DICTIONARY = 3, 5, 7
_FIRST_OF_DATA = 4  # all that must be there

_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _STRUCT = 1, 2, 3, 4, 5, 6, 7, 8, 12
_WORD: Final = 8
_MOST: Final = (1 << 31) - 1
_DEEPEST: Final = 2  # the statistics in a page's own header


@njit(inline="always")
def _signed(value: Any) -> Any:
    return np.int64(value >> np.uint64(1)) ^ -np.int64(value & np.uint64(1))


@njit(inline="always")
def _past(text: Any, at: Any, end: Any, kind: Any) -> Any:
    """Return where a value ends of which nothing is wanted; -1 if it is none that is expected."""
    if kind in (_TRUE, _FALSE):
        return at
    if kind == _BYTE:
        return at + 1
    if kind == _DOUBLE:
        return at + _WORD
    if kind == _BINARY:
        length, at = varint(text, at, end)
        return np.int64(-1) if at < 0 or length > np.uint64(end - at) else at + np.int64(length)
    return np.int64(-1)


@njit
def _header(  # noqa: C901, PLR0912 - one field after the other
    text: Any, at: Any, end: Any, page: Any
) -> Any:
    """Note what a header says and return where it ends; -1 if it is none."""
    depth, last, outer = 0, np.int64(0), np.int64(0)
    while 0 <= at < end:
        byte = text[at]
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
            number, at = varint(text, at, end)
            if at < 0:
                return np.int64(-1)
            last = _signed(number)
        if kind == _STRUCT:
            if depth == _DEEPEST:
                return np.int64(-1)
            if depth == 0 and last in (_OF_DATA, _OF_DICTIONARY):
                page[HOLDS] |= last
            # (What lies deeper still is passed over, so only the outermost field is gone back to.)
            outer = last if depth == 0 else outer
            depth += 1
            last = np.int64(0)
        elif kind in (_I16, _I32, _I64):
            number, at = varint(text, at, end)
            if at < 0:
                return np.int64(-1)
            # (A number of another width is a field that Parquet does not know.)
            if kind == _I32:
                _note(page, depth, outer, last, _signed(number))
        else:
            at = _past(text, at, end, kind)
    return np.int64(-1)


@njit(inline="always")
def _note(page: Any, depth: Any, outer: Any, field: Any, number: Any) -> None:
    """Note one of the first fields of a header, or of what it says of data or a dictionary."""
    if depth == 0 and 0 < field <= _FIRST:
        page[KIND + field - 1] = number
    elif depth == 1 and (
        (outer == _OF_DATA and 0 < field <= _FIRST_OF_DATA)
        or (outer == _OF_DICTIONARY and 0 < field < _FIRST)
    ):
        page[COUNT + field - 1] = number


@compiled
def find_pages(  # noqa: C901, PLR0911 - each way to be wrong ends it
    text: NDArray[np.uint8], columns: NDArray[np.int64], pages: NDArray[np.int64]
) -> int:
    """Note as many pages of `columns` as there is room for in `pages`, and return how many there are.

    -1 if there is something else, or a kind of page that is not known here.
    """
    found = 0
    spare = np.empty(FIELDS, np.int64)
    for column in range(len(columns)):
        at, end = columns[column, BEGIN], columns[column, END]
        left = columns[column, VALUES]
        begun = False
        if not 0 <= at <= end <= len(text):
            return -1
        while left > 0:
            page = pages[found] if found < len(pages) else spare
            page[:] = -1
            page[HOLDS] = 0
            at = _header(text, at, end, page)
            data = page[KIND] == DATA
            # (There is one dictionary at most, before all data.)
            if at < 0 or not (data or (page[KIND] == DICTIONARY and not begun)):
                return -1
            if page[HOLDS] != (_OF_DATA if data else _OF_DICTIONARY):
                return -1
            if data and (page[LEVELS] < 0 or page[REPEATS] < 0):
                return -1
            begun = True
            if not (0 <= page[PACKED] <= end - at and 0 <= page[SIZE] <= _MOST):
                return -1
            if not data <= page[COUNT] <= _MOST:
                return -1
            page[COLUMN] = column
            page[PLACE] = at
            at += page[PACKED]
            if data:
                left -= page[COUNT]
            found += 1
        if left < 0:
            return -1
    return found
