"""Compiled Snappy decompression for Parquet pages.

A batch of 200 columns has 400 pages. A library that decompresses one page a call would release the
interpreter lock and wait for it 400 times a batch, which takes longer than the decompression.

The format is the decompressed length and then elements: literal bytes, or a copy of earlier bytes,
given by offset and length. https://github.com/google/snappy/blob/main/format_description.txt
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numba import njit

from eai_notebook.compiled.jit import compiled
from eai_notebook.compiled.swar import copy_bytes
from eai_notebook.compiled.varint import varint

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LITERAL, _COPY_1, _COPY_2, _COPY_4 = range(4)
"""The kinds of element, in the lower two bits of its first byte: copies by bytes of their offset."""

_LONG: Final = 60
"""From this value on, the length of a literal is in the next one to four bytes."""


@compiled
def decompress_ranges(
    source: NDArray[np.uint8], ranges: NDArray[np.int64], target: NDArray[np.uint8]
) -> bool:
    """Decompress ranges of `source` into ranges of `target`; return whether all were valid.

    Args:
        source: Compressed bytes.
        ranges: Begin and end in `source`, begin and end in `target`; ``[ranges, 4]``.
        target: Receives the decompressed bytes.
    """
    for i in range(len(ranges)):
        begin, end, low, high = ranges[i]
        if not (0 <= begin <= end <= len(source) and 0 <= low <= high <= len(target)):
            return False
        if not _decompress(source[begin:end], target[low:high]):
            return False
    return True


@njit
def _decompress(data: Any, target: Any) -> Any:
    end, room = np.int64(len(data)), np.int64(len(target))
    size, at = varint(data, np.int64(0), end)
    if at < 0 or size != np.uint64(room):
        return False
    done = np.int64(0)
    while at < end:
        tag = np.int64(data[at])
        kind, length = tag & 3, (tag >> 2) + 1
        at += 1
        if kind == _LITERAL:
            if length > _LONG:
                more = length - _LONG
                length, at = _little_endian(data, at, end, more) + 1, at + more
            if at > end or length > end - at or length > room - done:
                return False
            copy_bytes(target.ctypes.data + done, data.ctypes.data + at, length)
            at += length
        else:
            more = np.int64(1 if kind == _COPY_1 else 2 if kind == _COPY_2 else 4)
            offset = _little_endian(data, at, end, more)
            if kind == _COPY_1:
                offset |= (tag >> 5) << 8
                length = 4 + ((tag >> 2) & 7)
            at += more
            if at > end or not 0 < offset <= done or length > room - done:
                return False
            _copy_within(target, done, offset, length)
        done += length
    return done == room


@njit(inline="always")
def _copy_within(target: Any, done: Any, offset: Any, length: Any) -> None:
    """Copy earlier bytes of `target` to `done`; source and destination may overlap."""
    if offset >= length:
        copy_bytes(target.ctypes.data + done, target.ctypes.data + done - offset, length)
        return
    for i in range(done, done + length):
        target[i] = target[i - offset]


@njit(inline="always")
def _little_endian(data: Any, at: Any, end: Any, count: Any) -> Any:
    """Return the little-endian number in `count` bytes; bytes from `end` on count as 0."""
    number = np.int64(0)
    for i in range(count):
        if at + i < end:
            number |= np.int64(data[at + i]) << np.int64(8 * i)
    return number
