"""The sum of what the ranks give to an exchange: each rank sums a segment of the gradients, for all.

Gradients of one virtual rank travel as they are, in float32; the rank that sums a segment adds them in float64
and in the order of the ranks, and rounds their mean once. That moves as many bytes as a ring allreduce in float32 does, and comes
to the same whichever ranks live. A rank that runs several virtual ranks adds these up first: its sum travels in
float64.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from mpi4py import MPI

    from eai_notebook.elastic.contribution import Contribution

LITTLE: Final = 8192
"""Up to so many gradients travel with the numbers, in one allreduce in float64."""

ALIGNED_BYTES: Final = 64
"""TensorFlow uses memory as it is that begins at a multiple of it."""


class GradientSum:
    """One sum over all ranks of a communicator, and the memory it uses.

    After a failure, MPI may still write to that memory: keep this as long as it may.

    Args:
        comm: Its ranks, in the order of their virtual ranks.
        numbers: float64 of one length on all ranks; the first says of how many virtual ranks they are.
        mine: Whose gradients to sum.
        wire: The dtype in which gradients travel, the same on all ranks.
    """

    def __init__(
        self, comm: MPI.Intracomm, numbers: np.ndarray, mine: Contribution, wire: np.dtype[Any]
    ) -> None:
        self._comm, self._wire, self._precision = comm, wire, mine.precision
        self._given = np.ascontiguousarray(mine.gradients, wire)
        self._numbers = numbers
        if self._is_little:
            self._numbers = np.concatenate([numbers, self._given.astype(np.float64)])
        self._memory: list[np.ndarray] = []
        self._many = len(numbers)

    @property
    def _is_little(self) -> bool:
        return len(self._given) <= LITTLE

    def run(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the sums of numbers, and the mean of the gradients; waits for all ranks.

        Raises:
            MPI.Exception: A rank has died.
        """
        comm = self._comm
        total = self._buffer(len(self._numbers), np.float64)
        comm.Allreduce(self._numbers, total)
        numbers, rest = total[: self._many], total[self._many :]
        if self._is_little:
            return numbers, (rest / numbers[0]).astype(self._precision)
        lengths, begins = segments(len(self._given), comm.size)
        own = int(lengths[comm.rank])
        parts = self._buffer(comm.size * own, self._wire)
        where = np.full(comm.size, own), np.arange(comm.size) * own
        comm.Alltoallv((self._given, (lengths, begins)), (parts, where))
        segment = in_order(parts.reshape(comm.size, own))
        segment /= numbers[0]
        segment = segment.astype(self._precision)
        self._memory.append(segment)
        gradients = self._buffer(len(self._given), self._precision)
        comm.Allgatherv(segment, (gradients, (lengths, begins)))
        return numbers, gradients

    def _buffer(self, count: int, dtype: Any) -> np.ndarray:
        found = aligned(count, dtype)
        self._memory.append(found)
        return found


def aligned(count: int, dtype: Any) -> np.ndarray:
    """Return memory for `count` numbers that TensorFlow can use without a copy.

    Examples:
        >>> aligned(3, np.float32).ctypes.data % ALIGNED_BYTES, aligned(3, np.float64).shape
        (0, (3,))
    """
    size = count * np.dtype(dtype).itemsize
    memory = np.empty(size + ALIGNED_BYTES, np.uint8)
    begin = -memory.ctypes.data % ALIGNED_BYTES
    return memory[begin : begin + size].view(dtype)


def segments(count: int, ranks: int) -> tuple[np.ndarray, np.ndarray]:
    """Return length and begin of each rank's segment of `count` numbers.

    Examples:
        >>> [each.tolist() for each in segments(7, 3)]
        [[2, 2, 3], [0, 2, 4]]
    """
    ends = np.arange(ranks + 1) * count // ranks
    return np.diff(ends), ends[:-1]


def in_order(parts: np.ndarray) -> np.ndarray:
    """Return the sum over the first axis in float64, added one after the other.

    Examples:
        >>> in_order(np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)).tolist()
        [4.0, 6.0]
    """
    total: np.ndarray = parts[0].astype(np.float64)
    for part in parts[1:]:
        total += part
    return total


def bytes_of(count: int, wire: type, precision: str) -> float:
    """Return the bytes of an allreduce that would move as much as the sum of `count` gradients.

    Examples:
        >>> bytes_of(100, np.float32, "float32"), bytes_of(100, np.float64, "float32")
        (400.0, 600.0)
    """
    return count * (np.dtype(wire).itemsize + np.dtype(precision).itemsize) / 2
