"""Write integer features as TFRecord files of `tf.train.Example`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numba import njit

from eai_notebook.compiled.jit import compiled
from eai_notebook.formats.tfrecord.crc32c import masked_crc

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

ABSENT: Final = np.iinfo(np.int64).min
"""The value of a feature that a record does not have."""

_FRAME = 16
_MAX_VARINT = 10  # bytes
_TAGS = 20  # more bytes than a feature has beside its name and value


@njit(inline="always")
def _put_varint(data: Any, at: Any, value: Any) -> Any:
    left = np.uint64(value)
    while left >= np.uint64(0x80):
        data[at] = np.uint8((left & np.uint64(0x7F)) | np.uint64(0x80))
        left >>= np.uint64(7)
        at += 1
    data[at] = np.uint8(left)
    return at + 1


@njit(inline="always")
def _varint_size(value: Any) -> Any:
    left = np.uint64(value) >> np.uint64(7)
    count = np.int64(1)
    while left:
        left >>= np.uint64(7)
        count += 1
    return count


@njit(inline="always")
def _put_low32(data: Any, at: Any, value: Any) -> None:
    for i in range(4):
        data[at + i] = np.uint8((np.uint64(value) >> np.uint64(8 * i)) & np.uint64(0xFF))


@compiled
def _write(
    values: NDArray[np.int64],
    keys: NDArray[np.uint8],
    begins: NDArray[np.int64],
    data: NDArray[np.uint8],
) -> int:
    pos = np.int64(0)
    for row in range(values.shape[0]):
        # The size of the map of features precedes it.
        size = np.int64(0)
        for column in range(values.shape[1]):
            value = values[row, column]
            if value != ABSENT:
                entry = 8 + (begins[column + 1] - begins[column]) + _varint_size(value)
                size += 1 + _varint_size(entry) + entry
        body = 1 + _varint_size(size) + size
        at = pos + 12
        data[at] = 0x0A
        at = _put_varint(data, at + 1, size)
        for column in range(values.shape[1]):
            value = values[row, column]
            if value == ABSENT:
                continue
            name = begins[column + 1] - begins[column]
            width = _varint_size(value)
            data[at] = 0x0A
            at = _put_varint(data, at + 1, 8 + name + width)
            data[at] = 0x0A
            data[at + 1] = np.uint8(name)
            at += 2
            for i in range(name):
                data[at + i] = keys[begins[column] + i]
            at += name
            # The value: Feature, Int64List and packed values, each preceded by its size.
            data[at] = 0x12
            data[at + 1] = np.uint8(4 + width)
            data[at + 2] = 0x1A
            data[at + 3] = np.uint8(2 + width)
            data[at + 4] = 0x0A
            data[at + 5] = np.uint8(width)
            at = _put_varint(data, at + 6, value)
        for i in range(8):
            data[pos + i] = np.uint8((np.uint64(body) >> np.uint64(8 * i)) & np.uint64(0xFF))
        _put_low32(data, pos + 8, masked_crc(data, pos, pos + 8))
        _put_low32(data, at, masked_crc(data, pos + 12, at))
        pos = at + 4
    return int(pos)


def to_records(values: NDArray[np.int64], names: Sequence[str]) -> NDArray[np.uint8]:
    """Return records of `values`, ``[rows, columns]``: one feature a column, none where `ABSENT`."""
    keys = [name.encode() for name in names]
    begins = np.concatenate([[0], np.cumsum([len(key) for key in keys])]).astype(np.int64)
    longest = _FRAME + _MAX_VARINT + len(keys) * (_TAGS + _MAX_VARINT) + int(begins[-1])
    data = np.empty(len(values) * longest, np.uint8)
    end: int = _write(values, np.frombuffer(b"".join(keys), np.uint8), begins, data)
    return data[:end]
