"""`BufferPool`: reuses the memory of rows, so that the system need not zero new pages.

TensorFlow holds a batch's memory as long as it likes. A buffer returns to the pool when the last
array that refers to it is garbage collected. Buffers that exceed the pool's limit go back to Arrow's
allocator, which keeps them for some time (`eai_notebook/__init__.py`).
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

MIN_POOLED: Final = 1 << 16
"""Bytes; smaller buffers are allocated as usual."""

MAX_IDLE: Final = 64 << 20
"""Bytes of idle buffers to keep, in addition to as many bytes as are in use."""

_STEP: Final = 1 << 14


class BufferPool:
    """A pool of buffers: one that is no longer referenced is reused for the same size.

    Examples:
        >>> pool = BufferPool()
        >>> address = pool.acquire(1 << 20).ctypes.data  # no reference is kept
        >>> pool.acquire(1 << 20).ctypes.data == address
        True
    """

    def __init__(self) -> None:
        self._free: dict[int, list[NDArray[np.uint8]]] = {}
        self._idle_bytes = self._used_bytes = 0
        self._returned: deque[NDArray[np.uint8]] = deque()
        self._lock = threading.Lock()

    def acquire(self, size: int) -> NDArray[np.uint8]:
        """Return `size` uninitialized bytes."""
        if size < MIN_POOLED:
            return np.empty(size, np.uint8)
        room = -(-size // _STEP) * _STEP
        with self._lock:
            self._collect()
            free = self._free.get(room)
            if free:
                memory = free.pop()
                self._idle_bytes -= room
            else:
                memory = np.frombuffer(pa.allocate_buffer(room), np.uint8)
            self._used_bytes += room
        # Views refer to this array and not to `memory`, because its base is not an array.
        buffer = np.frombuffer(memory.data, np.uint8, size)
        weakref.finalize(buffer, self._return, memory).atexit = False
        return buffer

    def _return(self, memory: NDArray[np.uint8]) -> None:
        self._returned.append(memory)
        # Garbage collection may call this in any allocation, even in the thread with the lock.
        if self._lock.acquire(blocking=False):
            try:
                self._collect()
            finally:
                self._lock.release()

    def _collect(self) -> None:
        """Keep returned buffers up to the limit."""
        while self._returned:
            memory = self._returned.popleft()
            self._used_bytes -= len(memory)
            self._idle_bytes += len(memory)
            self._free.setdefault(len(memory), []).append(memory)
        for size, buffers in self._free.items():
            while buffers and self._idle_bytes > MAX_IDLE + self._used_bytes:
                buffers.pop()
                self._idle_bytes -= size


BUFFER_POOL: Final = BufferPool()
