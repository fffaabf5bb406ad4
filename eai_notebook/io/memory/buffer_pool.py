"""A pool of buffers for rows: memory is reused, so that its pages need no zeroing.

A batch's memory goes to TensorFlow, which lets go of it at a time of its own. What is lent comes
back when the last array that lies in it is gone, never before. What is too much to keep goes to
Arrow's allocator, which has it for a while longer (`eai_notebook/__init__.py`).
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEAST: Final = 1 << 16
"""Bytes below which the allocator is quick enough."""

MOST_KEPT: Final = 64 << 20
"""Bytes kept for later, over all sizes, beyond as many as are in use."""

_STEP: Final = 1 << 14


class BufferPool:
    """A pool of buffers: what is no longer referenced is handed out again at the same size.

    Examples:
        >>> pool = BufferPool()
        >>> address = pool.acquire(1 << 20).ctypes.data  # nothing refers to it any more
        >>> pool.acquire(1 << 20).ctypes.data == address
        True
    """

    def __init__(self) -> None:
        self._kept: dict[int, list[NDArray[np.uint8]]] = {}
        self._idle = self._lent = 0
        self._back: deque[NDArray[np.uint8]] = deque()
        self._lock = threading.Lock()

    def acquire(self, size: int) -> NDArray[np.uint8]:
        """Return `size` bytes of memory, with whatever is in it."""
        if size < LEAST:
            return np.empty(size, np.uint8)
        room = -(-size // _STEP) * _STEP
        with self._lock:
            self._settle()
            kept = self._kept.get(room)
            if kept:
                memory = kept.pop()
                self._idle -= room
            else:
                memory = np.frombuffer(pa.allocate_buffer(room), np.uint8)
            self._lent += room
        # Arrays made of this one hold it, and not what lies beneath, because that is no array.
        lent = np.frombuffer(memory.data, np.uint8, size)
        weakref.finalize(lent, self._take_back, memory).atexit = False
        return lent

    def _take_back(self, memory: NDArray[np.uint8]) -> None:
        self._back.append(memory)
        # Memory may come back within any allocation, also of the thread that holds the lock.
        if self._lock.acquire(blocking=False):
            try:
                self._settle()
            finally:
                self._lock.release()

    def _settle(self) -> None:
        """Keep what came back, as long as there is not too much of it."""
        while self._back:
            memory = self._back.popleft()
            self._lent -= len(memory)
            self._idle += len(memory)
            self._kept.setdefault(len(memory), []).append(memory)
        for size, some in self._kept.items():
            while some and self._idle > MOST_KEPT + self._lent:
                some.pop()
                self._idle -= size


BUFFER_POOL: Final = BufferPool()
