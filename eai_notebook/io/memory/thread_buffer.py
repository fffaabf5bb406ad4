"""One read buffer for each thread, used again for every read."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class ThreadMemory(threading.local):
    """Bytes of which each thread has its own, and keeps them as long as it lives."""

    def __init__(self) -> None:
        self._bytes = np.empty(0, np.uint8)

    def of(self, size: int) -> NDArray[np.uint8]:
        """Return `size` bytes; they hold until this thread asks again.

        Examples:
            >>> memory = ThreadMemory()
            >>> memory.of(8).base is memory.of(4).base
            True
        """
        if len(self._bytes) < size:
            self._bytes = np.empty(size, np.uint8)
        return self._bytes[:size]
