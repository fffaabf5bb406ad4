"""Write integer features as TFRecord files of `tf.train.Example`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numba import njit

from eai_notebook.clicklog.text_parser import MISSING
from eai_notebook.compiled.jit import compiled
from eai_notebook.formats.tfrecord.crc32c import masked_crc

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_FRAME = 16
_LONGEST = 10  # bytes of a number of variable length
_TAGS = 20  # bytes around a feature's name and value, and more


@njit(inline="always")
def _put_varint(text: Any, at: Any, value: Any) -> Any:
    left = np.uint64(value)
    while left >= np.uint64(0x80):
        text[at] = np.uint8((left & np.uint64(0x7F)) | np.uint64(0x80))
        left >>= np.uint64(7)
        at += 1
    text[at] = np.uint8(left)
    return at + 1


@njit(inline="always")
def _length(value: Any) -> Any:
    left = np.uint64(value) >> np.uint64(7)
    count = np.int64(1)
    while left:
        left >>= np.uint64(7)
        count += 1
    return count


@njit(inline="always")
def _put_low32(text: Any, at: Any, value: Any) -> None:
    for place in range(4):
        text[at + place] = np.uint8((np.uint64(value) >> np.uint64(8 * place)) & np.uint64(0xFF))


@compiled
def _write(
    values: NDArray[np.int64],
    keys: NDArray[np.uint8],
    begins: NDArray[np.int64],
    text: NDArray[np.uint8],
) -> int:
    pos = np.int64(0)
    for row in range(values.shape[0]):
        # How long the map of features becomes, before it can be written.
        size = np.int64(0)
        for column in range(values.shape[1]):
            value = values[row, column]
            if value != MISSING:
                entry = 8 + (begins[column + 1] - begins[column]) + _length(value)
                size += 1 + _length(entry) + entry
        data = 1 + _length(size) + size
        at = pos + 12
        text[at] = 0x0A
        at = _put_varint(text, at + 1, size)
        for column in range(values.shape[1]):
            value = values[row, column]
            if value == MISSING:
                continue
            name = begins[column + 1] - begins[column]
            width = _length(value)
            text[at] = 0x0A
            at = _put_varint(text, at + 1, 8 + name + width)
            text[at] = 0x0A
            text[at + 1] = np.uint8(name)
            at += 2
            for place in range(name):
                text[at + place] = keys[begins[column] + place]
            at += name
            # A value, of integers, packed: each with what follows as its length.
            text[at] = 0x12
            text[at + 1] = np.uint8(4 + width)
            text[at + 2] = 0x1A
            text[at + 3] = np.uint8(2 + width)
            text[at + 4] = 0x0A
            text[at + 5] = np.uint8(width)
            at = _put_varint(text, at + 6, value)
        for place in range(8):
            text[pos + place] = np.uint8(
                (np.uint64(data) >> np.uint64(8 * place)) & np.uint64(0xFF)
            )
        _put_low32(text, pos + 8, masked_crc(text, pos, pos + 8))
        _put_low32(text, at, masked_crc(text, pos + 12, at))
        pos = at + 4
    return int(pos)


def to_records(values: NDArray[np.int64], names: Sequence[str]) -> NDArray[np.uint8]:
    """Return records with one feature a column, ``[rows, columns]``; `MISSING` ones are absent."""
    keys = [name.encode() for name in names]
    begins = np.concatenate([[0], np.cumsum([len(key) for key in keys])]).astype(np.int64)
    longest = _FRAME + _LONGEST + len(keys) * (_TAGS + _LONGEST) + int(begins[-1])
    text = np.empty(len(values) * longest, np.uint8)
    end: int = _write(values, np.frombuffer(b"".join(keys), np.uint8), begins, text)
    return text[:end]
