"""Compiled kernels from raw click-log columns to features, block by block.

Columns are Arrow buffers, given by address. The features equal those of the parser of delimited
text for the same values, bit by bit.
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
from eai_notebook.formats.tfrecord.example_kernels import BAD_VALUE, BYTES, FLOATS, GOOD, INTEGERS

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BLOCK: Final = 128
_WORD: Final = 32
_NARROW: Final = 4
_HEX_DIGITS: Final = 8
_MAX_UINT32: Final = 0xFFFFFFFF
_MIN_INT32: Final = -(1 << 31)  # some systems store the 32-bit values as signed numbers


@njit(inline="always")
def _load_validity(
    column: NDArray[np.int64],
    begin: int,
    count: int,
    valid: NDArray[np.uint32],
    bits: NDArray[np.uint8],
) -> None:
    """Load the validity of a block's rows: 1 for a value, 0 for a null."""
    validity = column[2]
    if validity == 0:
        valid[:] = 1
        return
    first = column[3] + begin
    last = first + count - 1
    copy_bytes(bits.ctypes.data, validity + (first >> 3), (last >> 3) - (first >> 3) + 1)
    _unpack_bits(bits, np.uint64(first & 7), valid)


# These are separate functions, so that the compiler knows that their arrays do not overlap and
# vectorizes the loops.


@njit
def _unpack_bits(bits: NDArray[np.uint8], shift: np.uint64, valid: NDArray[np.uint32]) -> None:
    for word in range(_BLOCK // _WORD):
        some = np.uint32(word_at(bits, word * 4) >> shift)
        for bit in range(_WORD):
            valid[word * _WORD + bit] = (some >> np.uint32(bit)) & np.uint32(1)


@njit
def _hash_block(
    values: NDArray[np.int32],
    valid: NDArray[np.uint32],
    count: int,
    column: int,
    buckets: int,
    ids: NDArray[np.int32],
) -> None:
    for row in range(count):
        bucket = bucket_of(np.uint32(values[row]), column, buckets)
        ids[row] = bucket * np.int32(valid[row])


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
def _log_block(
    values: NDArray[np.int64],
    valid: NDArray[np.uint32],
    count: int,
    missing: np.float32,
    logs: NDArray[np.float32],
) -> None:
    """Transform a block of integers: look up small ones, then compute the few large ones."""
    large = False
    for row in range(count):
        size = abs(values[row])
        small = np.uint64(size) < np.uint64(SMALL)
        log = LOG1P[size if small else 0]
        log = -log if values[row] < 0 else log
        logs[row] = log if valid[row] else missing
        large |= not small
    if large:
        for row in range(count):
            value = values[row]
            if valid[row] and np.uint64(abs(value)) >= np.uint64(SMALL):
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

    A column is four numbers: the address of its values, bytes of a value, the address of its validity
    bitmap (0 for none), the index of its first bit. A block is computed column by column, so that
    loops vectorize, and transposed to rows while it is in the first-level cache.
    """
    missing = np.float32(missing_integer)
    narrow = np.empty(_BLOCK, np.int32)
    values = np.empty(_BLOCK, np.int64)
    valid = np.empty(_BLOCK, np.uint32)
    bits = np.zeros(_BLOCK // 8 + 8, np.uint8)
    logs = np.empty((len(integers), _BLOCK), np.float32)
    chosen = np.empty((len(categoricals), _BLOCK), np.int32)
    for begin in range(0, len(bad), _BLOCK):
        count = min(_BLOCK, len(bad) - begin)
        for column in range(len(integers)):
            _load_validity(integers[column], begin, count, valid, bits)
            _load_values(integers[column], begin, count, narrow, values)
            _log_block(values, valid, count, missing, logs[column])
        for column in range(len(categoricals)):
            _load_validity(categoricals[column], begin, count, valid, bits)
            if categoricals[column, 1] == _NARROW:
                # All 32-bit patterns are valid.
                copy_bytes(narrow.ctypes.data, categoricals[column, 0] + begin * 4, count * 4)
            else:
                _load_values(categoricals[column], begin, count, narrow, values)
                for row in range(count):
                    value = values[row]
                    bad[begin + row] |= bool(valid[row]) and (
                        value > _MAX_UINT32 or value < _MIN_INT32
                    )
                    narrow[row] = np.int32(value)
            _hash_block(narrow, valid, count, column, buckets[column], chosen[column])
        for row in range(count):
            for column in range(len(integers)):
                numbers[begin + row, column] = logs[column, row]
            for column in range(len(categoricals)):
                ids[begin + row, column] = chosen[column, row]


@compiled
def hex_values(
    text: NDArray[np.uint8],
    offsets: NDArray[np.int64],
    valid: NDArray[np.bool_],
    values: NDArray[np.int64],
) -> None:
    """Parse hexadecimal strings; -1 for a null or an empty string, -2 for other text."""
    for row in range(len(values)):
        begin, end = offsets[row], offsets[row + 1]
        if not valid[row] or begin == end:
            values[row] = -1
        elif end - begin == _HEX_DIGITS:
            value = hexadecimal(word_at(text, begin))
            values[row] = value if value >= 0 else -2
        else:
            values[row] = -2


@compiled
def example_features(  # noqa: PLR0913, PLR0917 - arrays: compiled code has no objects
    data: NDArray[np.uint8],
    values: NDArray[np.int64],
    kinds: NDArray[np.uint8],
    missing_integer: float,
    buckets: NDArray[np.int32],
    numbers: NDArray[np.float32],
    ids: NDArray[np.int32],
    labels: NDArray[np.float32],
    status: NDArray[np.uint8],
) -> None:
    """Turn parsed records with one value a feature (label, integers, categoricals) into features."""
    integers = numbers.shape[1]
    categoricals = ids.shape[1]
    raw = np.empty(categoricals, np.int64)
    for row in range(len(status)):
        if status[row] != GOOD:
            continue
        label = values[row, 0]
        wrong = kinds[row, 0] != INTEGERS or label < 0 or label > 1
        labels[row, 0] = np.float32(label)
        for column in range(integers):
            kind = kinds[row, 1 + column]
            value = values[row, 1 + column]
            if kind == 0:
                numbers[row, column] = missing_integer
                continue
            wrong |= kind != INTEGERS
            size = abs(value)
            log = LOG1P[size] if 0 <= size < SMALL else np.float32(math.log1p(abs(float(value))))
            numbers[row, column] = -log if value < 0 else log
        for column in range(categoricals):
            kind = kinds[row, 1 + integers + column]
            value = values[row, 1 + integers + column]
            if kind == BYTES:
                length = value & _MAX_UINT32
                value = np.int64(hexadecimal(word_at(data, value >> 32))) if length == 8 else -1  # noqa: PLR2004
                wrong |= value < 0 and length != 0
                kind = np.uint8(0) if length == 0 else np.uint8(INTEGERS)
            wrong |= kind == FLOATS or (kind != 0 and (value > _MAX_UINT32 or value < _MIN_INT32))
            raw[column] = value if kind != 0 else np.int64(-1) << 32
        for column in range(categoricals):
            bucket = bucket_of(np.uint32(raw[column]), column, buckets[column])
            ids[row, column] = np.int32(0) if raw[column] < _MIN_INT32 else bucket
        if wrong:
            status[row] = BAD_VALUE
