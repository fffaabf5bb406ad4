"""The values in Parquet pages: plain, or as places in a dictionary; compiled, checked.

Places, and the levels that tell nulls from values, are in runs. A run begins with a number: twice
the times that one value repeats, or twice the eights of values that follow in as few bits as the
largest needs, and one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numba import njit

from eai_notebook.io.compiled import compiled
from eai_notebook.io.formats.parquet_pages import (
    COLUMN,
    COUNT,
    DICTIONARY,
    ENCODING,
    KIND,
    LEVELS,
    NULLABLE,
    SIZE,
)
from eai_notebook.io.formats.varint import varint
from eai_notebook.io.words import bytes_at, copy_bytes, word_at

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Encodings, as Parquet numbers them.
_PLAIN, _PLACES_OF_OLD, _RUNS, _PLACES = 0, 2, 3, 8

_WORD: Final = 8
_LENGTH: Final = 4
_MOST_BITS: Final = 20  # of a place: writers give up a dictionary long before
_AT_ONCE: Final = 8  # values, whose bits always end with a byte


@compiled
def decode(
    pages: NDArray[np.int64],
    addresses: NDArray[np.int64],
    columns: NDArray[np.int64],
    block: NDArray[Any],
    rows: int,
) -> bool:
    """Fill each row of `block` with a column's `rows` values, and return whether all were there.

    They are moved as they are, so `block` is of unsigned numbers of their size. False also where
    there is a null, or an encoding that is not known here.
    """
    # (Even the place of the only value there is takes a bit.)
    values, known = np.zeros(2, block.dtype), np.int64(0)
    column, row = -1, rows
    for page in range(len(pages)):
        if pages[page, COLUMN] != column:
            if row != rows:
                return False
            column, row, known = pages[page, COLUMN], 0, np.int64(0)
        text, count = bytes_at(addresses[page], pages[page, SIZE]), pages[page, COUNT]
        if pages[page, KIND] == DICTIONARY:
            plain = pages[page, ENCODING] in (_PLAIN, _PLACES_OF_OLD)
            if len(values) < count <= len(text):
                values = np.zeros(_power_of_two(count), block.dtype)
            if not plain or not _copy(text, np.int64(0), values, count):
                return False
            known = count
            continue
        if row + count > rows:
            return False
        target = block[column, row : row + count]
        if not _data(text, pages[page], columns[column, NULLABLE], values, known, target):
            return False
        row += count
    return row == rows


@njit
def _data(text: Any, page: Any, nullable: Any, values: Any, known: Any, target: Any) -> Any:
    """Fill `target` with the values of a page of data; False if it cannot."""
    at = np.int64(0)
    if nullable:
        at = _past_levels(text, len(target)) if page[LEVELS] == _RUNS else np.int64(-1)
        if at < 0:
            return False
    if page[ENCODING] == _PLAIN:
        return _copy(text, at, target, len(target))
    if page[ENCODING] in (_PLACES, _PLACES_OF_OLD):
        return _look_up(text, at, values, known, target)
    return False


@njit(inline="always")
def _copy(text: Any, at: Any, target: Any, count: Any) -> Any:
    size = count * target.itemsize
    if at + size > len(text):
        return False
    copy_bytes(target.ctypes.data, text.ctypes.data + at, size)
    return True


@njit(inline="always")
def _power_of_two(count: Any) -> Any:
    size = np.int64(1)
    while size < count:
        size *= 2
    return size


@njit
def _past_levels(text: Any, count: Any) -> Any:
    """Return where the levels of a page end; -1 if they do not say that there is every value."""
    if len(text) < _WORD:
        return np.int64(-1)
    end = _LENGTH + np.int64(word_at(text, 0) & np.uint64(0xFFFFFFFF))
    at, left = np.int64(_LENGTH), count
    while left > 0 and end <= len(text):
        run, at = varint(text, at, end)
        length = np.int64(run >> np.uint64(1))
        if at < 0 or at >= end or length <= 0:
            return np.int64(-1)
        if not run & np.uint64(1):
            if text[at] != 1:
                return np.int64(-1)
            at += 1
            left -= length
            continue
        for _ in range(length):
            wanted = np.uint8((1 << min(left, _AT_ONCE)) - 1)
            if at >= end or (left > 0 and text[at] & wanted != wanted):
                return np.int64(-1)
            at += 1
            left = max(left - _AT_ONCE, 0)
    return np.int64(end) if left <= 0 and end <= len(text) else np.int64(-1)


@njit
def _look_up(text: Any, at: Any, values: Any, known: Any, target: Any) -> Any:
    """Fill `target` with the values at the places that are told from `at` on; False if it cannot."""
    end, count = len(text), len(target)
    # As many values as these bits can tell places of: none can lie outside the memory, and it
    # is enough to look in the end whether the largest one is known.
    if at >= end or text[at] > _MOST_BITS or 1 << np.int64(text[at]) > len(values):
        return False
    bits = np.int64(text[at])
    at = np.int64(at + 1)
    done, largest = np.int64(0), np.uint64(0)
    while done < count:
        run, at = varint(text, at, end)
        length = np.int64(run >> np.uint64(1))
        if at < 0 or length <= 0 or length > end + count:
            return False
        if run & np.uint64(1):
            packed = length * bits
            if packed > end - at:
                return False
            some = min(length * _AT_ONCE, count - done)
            largest = max(largest, _unpack(text, at, bits, values, target[done : done + some]))
            at += packed
        else:
            some = min(length, count - done)
            size = (bits + 7) // 8
            if size > end - at:
                return False
            place = _bits_at(text, at * 8, size * 8)
            if place >= np.uint64(known):
                return False
            target[done : done + some] = values[place]
            at += size
        done += some
    return largest < np.uint64(known)


@njit
def _unpack(text: Any, at: Any, bits: Any, values: Any, target: Any) -> Any:
    """Fill `target` with the values at packed places, and return the largest place."""
    mask, width = np.uint64((1 << bits) - 1), np.uint64(bits)
    largest = np.uint64(0)
    done = np.int64(0)
    # How many eights begin where a whole word can still be read.
    if bits <= _AT_ONCE:
        eights = min(len(target) // 8, (len(text) - at - _WORD) // max(bits, 1) + 1)
        for eight in range(eights):
            word = word_at(text, at + eight * bits)
            for one in range(_AT_ONCE):
                place = (word >> (width * np.uint64(one))) & mask
                largest = max(largest, place)
                target[eight * 8 + one] = values[place]
        done = max(np.int64(0), np.int64(eights)) * 8
    else:
        whole = ((len(text) - at - _WORD) * 8) // bits
        for one in range(min(np.int64(len(target)), whole)):
            bit = np.int64(one) * bits
            place = (word_at(text, at + (bit >> 3)) >> np.uint64(bit & 7)) & mask
            largest = max(largest, place)
            target[one] = values[place]
        done = max(np.int64(0), min(np.int64(len(target)), whole))
    for one in range(done, len(target)):
        place = _bits_at(text, at * 8 + one * bits, bits)
        largest = max(largest, place)
        target[one] = values[place]
    return largest


@njit
def _bits_at(text: Any, bit: Any, bits: Any) -> Any:
    """Return the number in some bits, near the end, where no whole word can be read."""
    number = np.uint64(0)
    for one in range(bits):
        place = bit + one
        found = np.uint64(text[place >> 3] >> np.uint8(place & 7)) & np.uint64(1)
        number |= found << np.uint64(one)
    return number
