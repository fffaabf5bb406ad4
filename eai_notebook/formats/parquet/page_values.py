"""Compiled decoder of Parquet values: plain and dictionary pages, definition levels.

Dictionary indices and definition levels are in Parquet's RLE / bit-packing hybrid encoding. A run
begins with a varint: an even one, ``2 * n``, means one value repeated n times; an odd one,
``2 * n + 1``, means 8 * n bit-packed values.
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
    DEFINITION_ENCODING,
    DICTIONARY,
    ENCODING,
    KIND,
    NULLABLE,
    SIZE,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Encodings, in Parquet's numbering.
_PLAIN, _OLD_DICTIONARY, _RLE, _RLE_DICTIONARY = 0, 2, 3, 8

_WORD: Final = 8
_LENGTH: Final = 4
_MAX_INDEX_BITS: Final = 20  # writers stop to use a dictionary well before it is so large
_AT_ONCE: Final = 8  # values; their bits fill whole bytes
_BIT_COUNT: Final = np.array([byte.bit_count() for byte in range(256)], np.int64)


@compiled
def decode(
    pages: NDArray[np.int64],
    addresses: NDArray[np.int64],
    columns: NDArray[np.int64],
    rows: int,
    block: NDArray[Any],
    validity: NDArray[np.uint8],
    nulls: NDArray[np.int64],
) -> bool:
    """Decode pages into `block` and return whether every column has all `rows` values.

    Args:
        pages: The pages, see `page_headers.find_pages`.
        addresses: The memory address of each decompressed page.
        columns: The columns, see `page_headers.find_pages`.
        rows: Values of each column.
        block: Receives the values, ``[columns, >= rows]``, as unsigned integers of their size.
        validity: Receives a bit for each value that is not null, ``[columns, rows // 8 + 2]``;
            must be 0 before.
        nulls: Receives the number of nulls of each column; must be 0 before.

    Returns:
        False if the pages are damaged or have an encoding that is not supported.
    """
    # (At least two values: even the index into a dictionary of one value takes a bit.)
    values, known = np.zeros(2, block.dtype), np.int64(-1)
    column, row = -1, rows
    for page in range(len(pages)):
        if pages[page, COLUMN] != column:
            if row != rows or pages[page, COLUMN] != column + 1:
                return False
            column, row, known = pages[page, COLUMN], 0, np.int64(-1)
        data, count = bytes_at(addresses[page], pages[page, SIZE]), pages[page, COUNT]
        if pages[page, KIND] == DICTIONARY:
            values, known = _dictionary(data, pages[page, ENCODING], count, values)
            if known < 0:
                return False
            continue
        if row + count > rows:
            return False
        at, null_count = np.int64(0), np.int64(0)
        if columns[column, NULLABLE]:
            at, null_count = _read_levels(
                data, pages[page, DEFINITION_ENCODING], validity[column], row, count
            )
        target = block[column, row : row + count]
        if not _page_values(
            data, at, pages[page, ENCODING], values, known, target[: count - null_count]
        ):
            return False
        if null_count:
            _move_to_valid_rows(target, count - null_count, validity[column], row)
            nulls[column] += null_count
        row += count
    return row == rows and column == len(columns) - 1


@njit
def _dictionary(data: Any, encoding: Any, count: Any, values: Any) -> Any:
    """Return a dictionary, padded to a power of two, and its size; -1 if it is damaged."""
    if count > len(data) or encoding not in (_PLAIN, _OLD_DICTIONARY):
        return values, np.int64(-1)
    if len(values) < count:
        values = np.zeros(_power_of_two(count), values.dtype)
    return values, count if _copy(data, np.int64(0), values, count) else np.int64(-1)


@njit
def _page_values(data: Any, at: Any, encoding: Any, values: Any, known: Any, target: Any) -> Any:
    """Fill `target` with the values of a page from byte `at` on; False if they are damaged."""
    if at < 0:
        return False
    if encoding == _PLAIN:
        # (If there are more bytes than the values need, the footer is wrong about the page.)
        exact = at + len(target) * target.itemsize == len(data)
        return exact and _copy(data, at, target, len(target))
    if encoding in (_RLE_DICTIONARY, _OLD_DICTIONARY) and known >= 0:
        return len(target) == 0 or _look_up(data, at, values, known, target)
    return False


@njit(inline="always")
def _copy(data: Any, at: Any, target: Any, count: Any) -> Any:
    size = count * target.itemsize
    if at + size > len(data):
        return False
    copy_bytes(target.ctypes.data, data.ctypes.data + at, size)
    return True


@njit(inline="always")
def _power_of_two(count: Any) -> Any:
    size = np.int64(1)
    while size < count:
        size *= 2
    return size


@njit
def _read_levels(  # noqa: C901 - two kinds of run
    data: Any, encoding: Any, validity: Any, row: Any, count: Any
) -> Any:
    """Set the validity bits of a page's rows; return the levels' end and the number of nulls, or -1."""
    damaged = np.int64(-1), np.int64(0)
    if encoding != _RLE or len(data) < _LENGTH:
        return damaged
    end = _LENGTH + np.int64(low32(data, 0))
    if end > len(data):
        return damaged
    at, done, null_count = np.int64(_LENGTH), np.int64(0), np.int64(0)
    while done < count:
        run, at = varint(data, at, end)
        length = np.int64(run >> np.uint64(1))
        if at < 0 or at >= end or not 0 < length <= end + count:
            return damaged
        if not run & np.uint64(1):
            some = min(length, count - done)
            if data[at] == 1:
                _set_valid(validity, row + done, some)
            elif data[at] == 0:
                null_count += some
            else:
                return damaged
            at += 1
            done += some
        else:
            if length > end - at:
                return damaged
            for octet in range(length):
                some = min(np.int64(_AT_ONCE), count - done)
                if some == 0:
                    break
                bits = data[at + octet] & np.uint8((1 << some) - 1)
                byte, shift = (row + done) >> 3, np.uint8((row + done) & 7)
                validity[byte] |= np.uint8(bits << shift)
                validity[byte + 1] |= np.uint8(np.uint32(bits) << np.uint32(shift) >> np.uint32(8))
                null_count += some - _BIT_COUNT[bits]
                done += some
            at += length
    return (end, null_count) if at <= end else damaged


@njit
def _set_valid(validity: Any, begin: Any, count: Any) -> None:
    end = begin + count
    while begin < end and begin & 7:
        validity[begin >> 3] |= np.uint8(1 << (begin & 7))
        begin += 1
    validity[begin >> 3 : end >> 3] = np.uint8(255)
    for bit in range(max(begin, end >> 3 << 3), end):
        validity[bit >> 3] |= np.uint8(1 << (bit & 7))


@njit
def _move_to_valid_rows(target: Any, present: Any, validity: Any, row: Any) -> None:
    """Move the first `present` values of `target` to the valid rows; null rows keep any value."""
    source = present
    for index in range(len(target) - 1, -1, -1):
        bit = row + index
        source -= np.int64((validity[bit >> 3] >> np.uint8(bit & 7)) & np.uint8(1))
        target[index] = target[source]


@njit
def _look_up(data: Any, at: Any, values: Any, known: Any, target: Any) -> Any:
    """Fill `target` with the values at dictionary indices from byte `at` on; False if damaged."""
    end, count = len(data), len(target)
    # `values` has a slot for every index of this many bits, so no read is out of bounds, and it is
    # enough to check the largest index at the end.
    if at >= end or data[at] > _MAX_INDEX_BITS or 1 << np.int64(data[at]) > len(values):
        return False
    bits = np.int64(data[at])
    at = np.int64(at + 1)
    done, largest = np.int64(0), np.uint64(0)
    while done < count:
        run, at = varint(data, at, end)
        length = np.int64(run >> np.uint64(1))
        if at < 0 or length <= 0 or length > end + count:
            return False
        if run & np.uint64(1):
            packed = length * bits
            if packed > end - at:
                return False
            some = min(length * _AT_ONCE, count - done)
            largest = max(largest, _unpack(data, at, bits, values, target[done : done + some]))
            at += packed
        else:
            some = min(length, count - done)
            size = (bits + 7) // 8
            if size > end - at:
                return False
            index = _bits_at(data, at * 8, size * 8)
            if index >= np.uint64(known):
                return False
            target[done : done + some] = values[index]
            at += size
        done += some
    return largest < np.uint64(known)


@njit
def _unpack(data: Any, at: Any, bits: Any, values: Any, target: Any) -> Any:
    """Fill `target` with the values at bit-packed indices, and return the largest index."""
    mask, width = np.uint64((1 << bits) - 1), np.uint64(bits)
    largest = np.uint64(0)
    done = np.int64(0)
    # Read eight bytes at a time as long as they lie within `data`.
    if bits <= _AT_ONCE:
        octets = min(len(target) // 8, (len(data) - at - _WORD) // max(bits, 1) + 1)
        for octet in range(octets):
            word = word_at(data, at + octet * bits)
            for i in range(_AT_ONCE):
                index = (word >> (width * np.uint64(i))) & mask
                largest = max(largest, index)
                target[octet * 8 + i] = values[index]
        done = max(np.int64(0), np.int64(octets)) * 8
    else:
        by_word = ((len(data) - at - _WORD) * 8) // bits
        for i in range(min(np.int64(len(target)), by_word)):
            bit = np.int64(i) * bits
            index = (word_at(data, at + (bit >> 3)) >> np.uint64(bit & 7)) & mask
            largest = max(largest, index)
            target[i] = values[index]
        done = max(np.int64(0), min(np.int64(len(target)), by_word))
    for i in range(done, len(target)):
        index = _bits_at(data, at * 8 + i * bits, bits)
        largest = max(largest, index)
        target[i] = values[index]
    return largest


@njit
def _bits_at(data: Any, bit: Any, bits: Any) -> Any:
    """Return the number in some bits, bit by bit: near the end no whole word can be read."""
    number = np.uint64(0)
    for i in range(bits):
        index = bit + i
        found = np.uint64(data[index >> 3] >> np.uint8(index & 7)) & np.uint64(1)
        number |= found << np.uint64(i)
    return number
