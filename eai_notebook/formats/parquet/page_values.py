"""Compiled decoder of Parquet values: plain and dictionary pages, levels.

Places, and the levels that tell nulls from values, are in runs. A run begins with a number: twice
the times that one value repeats, or twice the eights of values that follow in as few bits as the
largest needs, and one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numba import njit

from eai_notebook.compiled.jit import compiled
from eai_notebook.compiled.swar import bytes_at, copy_bytes, low32, word_at
from eai_notebook.compiled.varint import varint
from eai_notebook.formats.parquet.page_headers import (
    COLUMN,
    COUNT,
    DICTIONARY,
    ENCODING,
    KIND,
    LEVELS,
    NULLABLE,
    SIZE,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Encodings, as Parquet numbers them.
_PLAIN, _PLACES_OF_OLD, _RUNS, _PLACES = 0, 2, 3, 8

_WORD: Final = 8
_LENGTH: Final = 4
_MOST_BITS: Final = 20  # of a place: writers give up a dictionary long before
_AT_ONCE: Final = 8  # values, whose bits always end with a byte
_ONES: Final = np.array([byte.bit_count() for byte in range(256)], np.int64)


@compiled
def decode(
    pages: NDArray[np.int64],
    addresses: NDArray[np.int64],
    columns: NDArray[np.int64],
    rows: int,
    block: NDArray[Any],
    there: NDArray[np.uint8],
    nulls: NDArray[np.int64],
) -> bool:
    """Fill rows of `block` with columns' values, and return whether all `rows` of them came out.

    Values are moved as they are, so `block` is of unsigned numbers of their size. Those of columns
    that may have nulls are marked with bits in `there`, which must be 0 before and have a byte
    more than bits for `rows`, and the others counted in `nulls`. False also where an encoding is
    not known here.
    """
    # (Even the place of the only value there is takes a bit.)
    values, known = np.zeros(2, block.dtype), np.int64(-1)
    column, row = -1, rows
    for page in range(len(pages)):
        if pages[page, COLUMN] != column:
            if row != rows or pages[page, COLUMN] != column + 1:
                return False
            column, row, known = pages[page, COLUMN], 0, np.int64(-1)
        text, count = bytes_at(addresses[page], pages[page, SIZE]), pages[page, COUNT]
        if pages[page, KIND] == DICTIONARY:
            values, known = _dictionary(text, pages[page, ENCODING], count, values)
            if known < 0:
                return False
            continue
        if row + count > rows:
            return False
        at, absent = np.int64(0), np.int64(0)
        if columns[column, NULLABLE]:
            at, absent = _levels(text, pages[page, LEVELS], there[column], row, count)
        target = block[column, row : row + count]
        if not _data(text, at, pages[page, ENCODING], values, known, target[: count - absent]):
            return False
        if absent:
            _spread(target, count - absent, there[column], row)
            nulls[column] += absent
        row += count
    return row == rows and column == len(columns) - 1


@njit
def _dictionary(text: Any, encoding: Any, count: Any, values: Any) -> Any:
    """Return values in memory for as many as their places have bits for, and how many; -1 if unclear."""
    if count > len(text) or encoding not in (_PLAIN, _PLACES_OF_OLD):
        return values, np.int64(-1)
    if len(values) < count:
        values = np.zeros(_power_of_two(count), values.dtype)
    return values, count if _copy(text, np.int64(0), values, count) else np.int64(-1)


@njit
def _data(text: Any, at: Any, encoding: Any, values: Any, known: Any, target: Any) -> Any:
    """Fill `target` with the values of a page from `at` on; False if it cannot."""
    if at < 0:
        return False
    if encoding == _PLAIN:
        # (More bytes than values need are another kind of page than was described.)
        exact = at + len(target) * target.itemsize == len(text)
        return exact and _copy(text, at, target, len(target))
    if encoding in (_PLACES, _PLACES_OF_OLD) and known >= 0:
        return len(target) == 0 or _look_up(text, at, values, known, target)
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
def _levels(  # noqa: C901 - two kinds of run
    text: Any, encoding: Any, there: Any, row: Any, count: Any
) -> Any:
    """Mark a page's values, and return where the levels end and how many are nulls; -1 if unclear."""
    unclear = np.int64(-1), np.int64(0)
    if encoding != _RUNS or len(text) < _LENGTH:
        return unclear
    end = _LENGTH + np.int64(low32(text, 0))
    if end > len(text):
        return unclear
    at, done, absent = np.int64(_LENGTH), np.int64(0), np.int64(0)
    while done < count:
        run, at = varint(text, at, end)
        length = np.int64(run >> np.uint64(1))
        if at < 0 or at >= end or not 0 < length <= end + count:
            return unclear
        if not run & np.uint64(1):
            some = min(length, count - done)
            if text[at] == 1:
                _mark(there, row + done, some)
            elif text[at] == 0:
                absent += some
            else:
                return unclear
            at += 1
            done += some
        else:
            if length > end - at:
                return unclear
            for eight in range(length):
                some = min(np.int64(_AT_ONCE), count - done)
                if some == 0:
                    break
                bits = text[at + eight] & np.uint8((1 << some) - 1)
                place, shift = (row + done) >> 3, np.uint8((row + done) & 7)
                there[place] |= np.uint8(bits << shift)
                there[place + 1] |= np.uint8(np.uint32(bits) << np.uint32(shift) >> np.uint32(8))
                absent += some - _ONES[bits]
                done += some
            at += length
    return (end, absent) if at <= end else unclear


@njit
def _mark(there: Any, begin: Any, count: Any) -> None:
    end = begin + count
    while begin < end and begin & 7:
        there[begin >> 3] |= np.uint8(1 << (begin & 7))
        begin += 1
    there[begin >> 3 : end >> 3] = np.uint8(255)
    for bit in range(max(begin, end >> 3 << 3), end):
        there[bit >> 3] |= np.uint8(1 << (bit & 7))


@njit
def _spread(target: Any, present: Any, there: Any, row: Any) -> None:
    """Move the first values of `target` to where they are marked; what is between is anything."""
    source = present
    for place in range(len(target) - 1, -1, -1):
        bit = row + place
        source -= np.int64((there[bit >> 3] >> np.uint8(bit & 7)) & np.uint8(1))
        target[place] = target[source]


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
