"""Compiled kernels from raw click-log columns to features, block by block.

The columns are given by address, as Arrow holds them; what comes out is what the parser of
delimited text makes of the same values, bit by bit.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np
from numba import njit

from eai_notebook.clicklog.bucket_hashing import bucket_of
from eai_notebook.clicklog.text_parser import LOG1P, SMALL
from eai_notebook.compiled.jit import compiled
from eai_notebook.compiled.swar import copy_bytes, hexadecimal, word_at

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BLOCK: Final = 128
_WORD: Final = 32
_NARROW: Final = 4
_HEX_DIGITS: Final = 8
_MOST: Final = 0xFFFFFFFF
_LEAST: Final = -(1 << 31)  # stored with a sign by systems that know no unsigned numbers


@njit(inline="always")
def _load_there(
    column: NDArray[np.int64],
    begin: int,
    count: int,
    there: NDArray[np.uint32],
    bits: NDArray[np.uint8],
) -> None:
    """Load the validity bits of a block: 1 for a value, 0 where missing."""
    validity = column[2]
    if validity == 0:
        there[:] = 1
        return
    first = column[3] + begin
    last = first + count - 1
    copy_bytes(bits.ctypes.data, validity + (first >> 3), (last >> 3) - (first >> 3) + 1)
    _spread(bits, np.uint64(first & 7), there)


# Apart from their callers, so that the compiler can tell that nothing overlaps, and has them work
# on many values at once.


@njit
def _spread(bits: NDArray[np.uint8], shift: np.uint64, there: NDArray[np.uint32]) -> None:
    for word in range(_BLOCK // _WORD):
        some = np.uint32(word_at(bits, word * 4) >> shift)
        for place in range(_WORD):
            there[word * _WORD + place] = (some >> np.uint32(place)) & np.uint32(1)


@njit
def _hashed(
    values: NDArray[np.int32],
    there: NDArray[np.uint32],
    count: int,
    column: int,
    buckets: int,
    ids: NDArray[np.int32],
) -> None:
    for row in range(count):
        bucket = bucket_of(np.uint32(values[row]), column, buckets)
        ids[row] = bucket * np.int32(there[row])


@njit(inline="always")
def _load_values(
    column: NDArray[np.int64],
    begin: int,
    count: int,
    narrow: NDArray[np.int32],
    values: NDArray[np.int64],
) -> None:
    """Load a block of a column, widened to 64 bits."""
    if column[1] == _NARROW:
        copy_bytes(narrow.ctypes.data, column[0] + begin * 4, count * 4)
        for row in range(count):
            values[row] = narrow[row]
    else:
        copy_bytes(values.ctypes.data, column[0] + begin * 8, count * 8)


@njit(inline="always")
def _logarithms(
    values: NDArray[np.int64],
    there: NDArray[np.uint32],
    count: int,
    missing: np.float32,
    logs: NDArray[np.float32],
) -> None:
    """Transform a block of integers; first as if all were small, as nearly all are."""
    large = False
    for row in range(count):
        size = abs(values[row])
        small = np.uint64(size) < np.uint64(SMALL)
        log = LOG1P[size if small else 0]
        log = -log if values[row] < 0 else log
        logs[row] = log if there[row] else missing
        large |= not small
    if large:
        for row in range(count):
            value = values[row]
            if there[row] and np.uint64(abs(value)) >= np.uint64(SMALL):
                log = np.float32(math.log1p(abs(float(value))))
                logs[row] = -log if value < 0 else log


@compiled
def features(
    integers: NDArray[np.int64],
    categoricals: NDArray[np.int64],
    missing_integer: float,
    buckets: NDArray[np.int32],
    numbers: NDArray[np.float32],
    ids: NDArray[np.int32],
    bad: NDArray[np.bool_],
) -> None:
    """Fill `numbers` and `ids` from columns, block by block; mark bad rows.

    A column is given as address, bytes of a value, address of validity bits (0 for none), first
    bit. A block is made column by column, so that loops run on many values at once, and then
    turned into rows while it is in the nearest cache.
    """
    missing = np.float32(missing_integer)
    narrow = np.empty(_BLOCK, np.int32)
    values = np.empty(_BLOCK, np.int64)
    there = np.empty(_BLOCK, np.uint32)
    bits = np.zeros(_BLOCK // 8 + 8, np.uint8)
    logs = np.empty((len(integers), _BLOCK), np.float32)
    chosen = np.empty((len(categoricals), _BLOCK), np.int32)
    for begin in range(0, len(bad), _BLOCK):
        count = min(_BLOCK, len(bad) - begin)
        for column in range(len(integers)):
            _load_there(integers[column], begin, count, there, bits)
            _load_values(integers[column], begin, count, narrow, values)
            _logarithms(values, there, count, missing, logs[column])
        for column in range(len(categoricals)):
            _load_there(categoricals[column], begin, count, there, bits)
            if categoricals[column, 1] == _NARROW:
                # Any 32 bits are a value.
                copy_bytes(narrow.ctypes.data, categoricals[column, 0] + begin * 4, count * 4)
            else:
                _load_values(categoricals[column], begin, count, narrow, values)
                for row in range(count):
                    value = values[row]
                    bad[begin + row] |= bool(there[row]) and (value > _MOST or value < _LEAST)
                    narrow[row] = np.int32(value)
            _hashed(narrow, there, count, column, buckets[column], chosen[column])
        for row in range(count):
            for column in range(len(integers)):
                numbers[begin + row, column] = logs[column, row]
            for column in range(len(categoricals)):
                ids[begin + row, column] = chosen[column, row]


@compiled
def hex_values(
    text: NDArray[np.uint8],
    offsets: NDArray[np.int64],
    there: NDArray[np.bool_],
    values: NDArray[np.int64],
) -> None:
    """Read hexadecimal strings; -1 for a missing or an empty one, -2 for what is none."""
    for row in range(len(values)):
        begin, end = offsets[row], offsets[row + 1]
        if not there[row] or begin == end:
            values[row] = -1
        elif end - begin == _HEX_DIGITS:
            value = hexadecimal(word_at(text, begin))
            values[row] = value if value >= 0 else -2
        else:
            values[row] = -2
