"""From columns of raw click-log values to features: compiled, in blocks that stay in the cache.

The columns are given by address, as Arrow holds them; what comes out is what the parser of
delimited text makes of the same values, bit by bit.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np
from numba import njit

from eai_notebook.io.compiled import compiled
from eai_notebook.io.hashing import bucket_of
from eai_notebook.io.parse import LOG1P, SMALL
from eai_notebook.io.words import copy_bytes, hexadecimal, word_at

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BLOCK: Final = 512
_NARROW: Final = 4
_HEX_DIGITS: Final = 8
_MOST: Final = 0xFFFFFFFF
_LEAST: Final = -(1 << 31)  # stored with a sign by systems that know no unsigned numbers


@njit(inline="always")
def _load(
    column: NDArray[np.int64],
    begin: int,
    count: int,
    narrow: NDArray[np.int32],
    values: NDArray[np.int64],
    there: NDArray[np.uint8],
    bits: NDArray[np.uint8],
) -> None:
    """Load a block of a column given as address, width, address of validity bits, offset."""
    address, width, validity, offset = column[0], column[1], column[2], column[3]
    if width == _NARROW:
        copy_bytes(narrow.ctypes.data, address + begin * 4, count * 4)
        for row in range(count):
            values[row] = narrow[row]
    else:
        copy_bytes(values.ctypes.data, address + begin * 8, count * 8)
    if validity == 0:
        there[:count] = 1
        return
    first = (offset + begin) >> 3
    last = (offset + begin + count - 1) >> 3
    copy_bytes(bits.ctypes.data, validity + first, last - first + 1)
    shift = (offset + begin) & 7
    for row in range(count):
        place = shift + row
        there[row] = (bits[place >> 3] >> np.uint8(place & 7)) & 1


@compiled
def features(  # noqa: C901 - loops over blocks, columns and rows
    integers: NDArray[np.int64],
    categoricals: NDArray[np.int64],
    missing_integer: float,
    buckets: NDArray[np.int32],
    numbers: NDArray[np.float32],
    ids: NDArray[np.int32],
    bad: NDArray[np.bool_],
) -> None:
    """Fill `numbers` and `ids` from columns given as in `_load`, one a row; mark bad rows."""
    rows = len(bad)
    narrow = np.empty(_BLOCK, np.int32)
    values = np.empty(_BLOCK, np.int64)
    there = np.empty(_BLOCK, np.uint8)
    bits = np.empty(_BLOCK // 8 + 2, np.uint8)
    chosen = np.empty(_BLOCK, np.int32)
    for begin in range(0, rows, _BLOCK):
        count = min(_BLOCK, rows - begin)
        for column in range(len(integers)):
            _load(integers[column], begin, count, narrow, values, there, bits)
            for row in range(count):
                if not there[row]:
                    numbers[begin + row, column] = missing_integer
                    continue
                value = values[row]
                size = abs(value)
                log = (
                    LOG1P[size] if 0 <= size < SMALL else np.float32(math.log1p(abs(float(value))))
                )
                numbers[begin + row, column] = -log if value < 0 else log
        for column in range(len(categoricals)):
            _load(categoricals[column], begin, count, narrow, values, there, bits)
            wrong = False
            for row in range(count):
                value = values[row]
                wrong |= (value > _MOST) | (value < _LEAST)
                bucket = bucket_of(np.uint32(value), column, buckets[column])
                chosen[row] = bucket if there[row] else np.int32(0)
            for row in range(count):
                ids[begin + row, column] = chosen[row]
            if wrong:
                for row in range(count):
                    value = values[row]
                    if there[row] and (value > _MOST or value < _LEAST):
                        bad[begin + row] = True


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
