"""Memory for rows, used again once nobody holds it: the system would zero each page anew.

A batch's memory goes to TensorFlow, which lets go of it at a time of its own. What is lent comes
back when the last array that lies in it is gone, never before.
"""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEAST: Final = 1 << 16
"""Bytes below which the allocator is quick enough."""

MOST_KEPT: Final = 64 << 20
"""Bytes kept for later, over all sizes."""

_STEP: Final = 1 << 14


class Lender:
    """Lends memory, and keeps what comes back for the next one who asks for as much.

    Example:
        >>> lender = Lender()
        >>> place = lender.lend(1 << 20).ctypes.data  # nobody holds it any more
        >>> lender.lend(1 << 20).ctypes.data == place
        True
    """

    def __init__(self) -> None:
        self._kept: dict[int, list[NDArray[np.uint8]]] = {}
        self._bytes = 0
        # Memory may come back within any allocation of this very thread.
        self._lock = threading.RLock()

    def lend(self, size: int) -> NDArray[np.uint8]:
        """Return `size` bytes of memory, with whatever is in it."""
        if size < LEAST:
            return np.empty(size, np.uint8)
        room = -(-size // _STEP) * _STEP
        with self._lock:
            kept = self._kept.get(room)
            memory = kept.pop() if kept else None
            if memory is not None:
                self._bytes -= room
        if memory is None:
            memory = np.empty(room, np.uint8)
        # Arrays made of this one hold it, and not what lies beneath, because that is no array.
        lent = np.frombuffer(memory.data, np.uint8, size)
        weakref.finalize(lent, self._take_back, memory).atexit = False
        return lent

    def _take_back(self, memory: NDArray[np.uint8]) -> None:
        with self._lock:
            if self._bytes + len(memory) <= MOST_KEPT:
                self._bytes += len(memory)
                self._kept.setdefault(len(memory), []).append(memory)


LENDER: Final = Lender()
