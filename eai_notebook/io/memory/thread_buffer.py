"""`ThreadMemory`: one buffer for each thread, reused by every read."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class ThreadMemory(threading.local):
    """A buffer of its own for each thread, kept until the thread ends."""

    def __init__(self) -> None:
        self._bytes = np.empty(0, np.uint8)

    def of(self, size: int) -> NDArray[np.uint8]:
        """Return `size` bytes; this thread's next call returns the same memory.

        Examples:
            >>> memory = ThreadMemory()
            >>> memory.of(8).base is memory.of(4).base
            True
        """
        if len(self._bytes) < size:
            self._bytes = np.empty(size, np.uint8)
        return self._bytes[:size]
