"""A file object for pyarrow that serves reads from fetched ranges, else from storage."""

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

_GAP = 1 << 20  # bytes; ranges closer than this are read by one request


class Stream:
    """A read-only stream for `pyarrow.PythonFile`, without copies.

    Attributes:
        memory: The bytes of the last `fetch`, one range after the other.
    """

    def __init__(self, file: File) -> None:
        self._file = file
        self._offset = 0
        self._fetched: list[tuple[int, NDArray[np.uint8]]] = []
        self.memory = np.empty(0, np.uint8)
        self.closed = False

    def fetch(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Read ranges now, neighbouring ones by one request."""
        requests = merged(ranges)
        self.memory = memory = BUFFER_POOL.acquire(sum(end - begin for begin, end in requests))
        for begin, end in requests:
            target, memory = memory[: end - begin], memory[end - begin :]
            self._file.read_into(target, begin)
            self._fetched.append((begin, target))

    def put(self, begin: int, memory: NDArray[np.uint8]) -> None:
        """Add bytes of the file that were read before, starting at offset `begin`."""
        self._fetched.append((begin, memory))

    def read_buffer(self, count: int) -> pa.Buffer:
        """Return the next bytes."""
        begin = self._offset
        if begin < 0:
            raise OSError(errno.EINVAL, f"negative offset {begin}")
        count = max(0, min(count, self._file.size - begin))
        self._offset += count
        for first, memory in self._fetched:
            if first <= begin and begin + count <= first + len(memory):
                return pa.py_buffer(memory[begin - first : begin - first + count])
        buffer = pa.allocate_buffer(count)
        self._file.read_into(np.frombuffer(buffer, np.uint8), begin)
        return buffer

    def read(self, count: int = -1) -> bytes:
        """Return a copy of the next bytes."""
        copied: bytes = self.read_buffer(self._file.size if count < 0 else count).to_pybytes()
        return copied

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to an offset and return it."""
        self._offset = (
            offset
            + {os.SEEK_SET: 0, os.SEEK_CUR: self._offset, os.SEEK_END: self._file.size}[whence]
        )
        return self._offset

    def tell(self) -> int:
        """Return the offset of the next byte."""
        return self._offset

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
        """Do nothing: the stream is read-only."""

    def close(self) -> None:
        """Mark the stream as closed; it holds no open file."""
        self.closed = True


def arrow_file(stream: Stream) -> pa.NativeFile:
    """Return a stream as the file object that Arrow's readers accept."""
    return pa.PythonFile(stream, mode="r")


def merged(ranges: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return ranges sorted, with neighbouring ones merged.

    Examples:
        >>> merged([(5_000_000, 5_000_010), (0, 10), (20, 30)])
        [(0, 30), (5000000, 5000010)]
    """
    result: list[tuple[int, int]] = []
    for begin, end in sorted(ranges):
        if result and begin <= result[-1][1] + _GAP:
            result[-1] = result[-1][0], max(end, result[-1][1])
        else:
            result.append((begin, end))
    return result


def offset_in(ranges: Sequence[tuple[int, int]], byte: int) -> int | None:
    """Return the index of a file's byte in memory that holds `ranges` one after the other.

    None if the byte is in none of the ranges.

    Examples:
        >>> offset_in([(0, 30), (5_000_000, 5_000_010)], 5_000_003)
        33
    """
    before = 0
    for begin, end in ranges:
        if begin <= byte < end:
            return before + byte - begin
        before += end - begin
    return None
