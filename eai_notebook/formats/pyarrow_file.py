"""A file object for pyarrow: reads go to a fetched range, or to storage."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from eai_notebook.io.memory.buffer_pool import BUFFER_POOL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from eai_notebook.io.sources.file import File

_GAP = 1 << 20  # bytes not wanted that are read along, rather than ask storage twice


class Stream:
    """What `pyarrow.PythonFile` needs of a file, without a copy on the way.

    Attributes:
        memory: What was fetched, one range after the other.
    """

    def __init__(self, file: File) -> None:
        self._file = file
        self._at = 0
        self._fetched: list[tuple[int, NDArray[np.uint8]]] = []
        self.memory = np.empty(0, np.uint8)
        self.closed = False

    def fetch(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Read ranges now, near ones in one go."""
        wanted = merged(ranges)
        self.memory = memory = BUFFER_POOL.acquire(sum(end - begin for begin, end in wanted))
        for begin, end in wanted:
            place, memory = memory[: end - begin], memory[end - begin :]
            self._file.read_into(place, begin)
            self._fetched.append((begin, place))

    def put(self, begin: int, memory: NDArray[np.uint8]) -> None:
        """Take bytes that were read already, from `begin` on."""
        self._fetched.append((begin, memory))

    def read_buffer(self, count: int) -> pa.Buffer:
        """Return the next bytes."""
        begin = self._at
        if begin < 0:
            raise OSError(errno.EINVAL, f"there is no byte {begin}")
        count = max(0, min(count, self._file.size - begin))
        self._at += count
        for first, memory in self._fetched:
            if first <= begin and begin + count <= first + len(memory):
                return pa.py_buffer(memory[begin - first : begin - first + count])
        buffer = pa.allocate_buffer(count)
        self._file.read_into(np.frombuffer(buffer, np.uint8), begin)
        return buffer

    def read(self, count: int = -1) -> bytes:
        """Return the next bytes, copied."""
        found: bytes = self.read_buffer(self._file.size if count < 0 else count).to_pybytes()
        return found

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a byte."""
        self._at = (
            offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._file.size}[whence]
        )
        return self._at

    def tell(self) -> int:
        """Return the byte that is read next."""
        return self._at

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def writable(self) -> bool:
        """Return False."""
        return False

    def flush(self) -> None:
        """There is nothing to write."""

    def close(self) -> None:
        """There is nothing to keep open."""
        self.closed = True


def arrow_file(stream: Stream) -> pa.NativeFile:
    """Return what Arrow's readers take."""
    return pa.PythonFile(stream, mode="r")


def merged(ranges: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return ranges in order, of which near ones have become one.

    Examples:
        >>> merged([(5_000_000, 5_000_010), (0, 10), (20, 30)])
        [(0, 30), (5000000, 5000010)]
    """
    found: list[tuple[int, int]] = []
    for begin, end in sorted(ranges):
        if found and begin <= found[-1][1] + _GAP:
            found[-1] = found[-1][0], max(end, found[-1][1])
        else:
            found.append((begin, end))
    return found


def offset_in(ranges: Sequence[tuple[int, int]], byte: int) -> int | None:
    """Return where a byte of a file lies in the memory to which `ranges` are fetched, if it does.

    Examples:
        >>> offset_in([(0, 30), (5_000_000, 5_000_010)], 5_000_003)
        33
    """
    place = 0
    for begin, end in ranges:
        if begin <= byte < end:
            return place + byte - begin
        place += end - begin
    return None
