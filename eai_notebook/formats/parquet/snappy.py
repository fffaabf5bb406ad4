"""Compiled Snappy decompression for Parquet pages.

A batch of 200 columns has 400 pages. A library that unpacks one at a call would give up the
interpreter and wait for it 400 times a batch, which takes longer than to unpack them.

What is packed is its length in plain, then pieces: bytes as they are, or some that came before,
told by how far back they begin. https://github.com/google/snappy/blob/main/format_description.txt
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

_PLAIN, _NEAR, _FAR, _FARTHEST = range(4)
"""The kinds of piece, in the lower two bits of the byte that it begins with."""

_LONG: Final = 60
"""From here on the length of a plain piece is told in the bytes that follow: one, or up to four."""


@compiled
def unpack(packed: NDArray[np.uint8], places: NDArray[np.int64], plain: NDArray[np.uint8]) -> bool:
    """Unpack pieces of memory into another, and return whether each is what was told of it.

    Args:
        packed: What is packed.
        places: Of each piece where it begins and ends in `packed`, and in `plain`.
        plain: Where it goes to.
    """
    for which in range(len(places)):
        begin, end, low, high = places[which]
        if not (0 <= begin <= end <= len(packed) and 0 <= low <= high <= len(plain)):
            return False
        if not _unpack(packed[begin:end], plain[low:high]):
            return False
    return True


@njit
def _unpack(text: Any, plain: Any) -> Any:
    end, room = np.int64(len(text)), np.int64(len(plain))
    size, at = varint(text, np.int64(0), end)
    if at < 0 or size != np.uint64(room):
        return False
    done = np.int64(0)
    while at < end:
        tag = np.int64(text[at])
        kind, length = tag & 3, (tag >> 2) + 1
        at += 1
        if kind == _PLAIN:
            if length > _LONG:
                more = length - _LONG
                length, at = _little_endian(text, at, end, more) + 1, at + more
            if at > end or length > end - at or length > room - done:
                return False
            copy_bytes(plain.ctypes.data + done, text.ctypes.data + at, length)
            at += length
        else:
            more = np.int64(1 if kind == _NEAR else 2 if kind == _FAR else 4)
            back = _little_endian(text, at, end, more)
            if kind == _NEAR:
                back |= (tag >> 5) << 8
                length = 4 + ((tag >> 2) & 7)
            at += more
            if at > end or not 0 < back <= done or length > room - done:
                return False
            _repeat(plain, done, back, length)
        done += length
    return done == room


@njit(inline="always")
def _repeat(plain: Any, done: Any, back: Any, length: Any) -> None:
    """Copy bytes that came before; what is copied may already be what is copied from."""
    if back >= length:
        copy_bytes(plain.ctypes.data + done, plain.ctypes.data + done - back, length)
        return
    for one in range(done, done + length):
        plain[one] = plain[one - back]


@njit(inline="always")
def _little_endian(text: Any, at: Any, end: Any, count: Any) -> Any:
    """Return the number in some bytes, as far as there are any."""
    number = np.int64(0)
    for one in range(count):
        if at + one < end:
            number |= np.int64(text[at + one]) << np.int64(8 * one)
    return number
