"""Save and load the shards of tables, for any number of ranks.

They belong to a checkpoint of `snapshot`: its file is written last, when all parts are there,
and records their number and sum. The folder must be one that all ranks
see. No more than a block of rows is in memory at a time.
"""

from __future__ import annotations

import os
import zlib
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from eai_notebook import collective
from eai_notebook.errors import EaiError
from eai_notebook.train.sharded.sharded_variables import Shard, put_rows, rows_of, shard_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

_NAME: Final = "shard-{number:010d}-{position}-{rank}.npy"
_FILES: Final = "shard-*.npy"
_BLOCK: Final = 1 << 16
"""Bytes are read and written for so many rows at a time."""


def write(folder: Path, number: int, parts: Sequence[Any]) -> dict[str, Any] | None:
    """Write this rank's `parts`; all ranks must call it. Return what `read` needs to know.

    Args:
        folder: Where the checkpoint is.
        number: The checkpoint's.
        parts: Keras variables that are parts, in the same order on all ranks.

    Returns:
        What JSON can hold; None if there are no parts.

    Raises:
        EaiError: A rank could not write, for example for want of room.
    """
    if not parts:
        return None
    sums = np.zeros(len(parts), np.int64)

    def work() -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for position, part in enumerate(parts):
            path = folder / _NAME.format(number=number, position=position, rank=collective.rank())
            sums[position] = _write_one(path, part)

    together(work, "write", folder, "make room, or give another folder")
    return {
        "number": number,
        "ranks": collective.size(),
        "sums": collective.gather_numpy(sums).tolist(),
    }


def read(folder: Path, about: dict[str, Any], parts: Sequence[Any]) -> None:
    """Read this rank's rows into `parts`; all ranks must call it.

    `about` is what `write` returned, by however many ranks.

    Raises:
        EaiError: A file is missing or damaged; it is named.
    """
    ranks, number = about["ranks"], about["number"]

    def file(position: int, rank: int) -> _File:
        return _File(folder / _NAME.format(number=number, position=position, rank=rank))

    def work() -> None:
        for rank in range(collective.rank(), ranks, collective.size()):
            for position in range(len(parts)):
                file(position, rank).check(about["sums"][rank][position])
        for position, part in enumerate(parts):
            files = [file(position, rank) for rank in range(ranks)]
            for first, rows in _blocks(_shard(part), files):
                put_rows(part.value, first, rows)

    together(work, "read", folder, "give the folder all its files back, or an empty one")


def tidy(folder: Path, kept: Sequence[int]) -> None:
    """Remove the parts of checkpoints that are not `kept`; one rank alone may call it."""
    for path in folder.glob(_FILES):
        if int(path.name.split("-")[1]) not in kept:
            path.unlink()


def together(work: Callable[[], None], verb: str, folder: Path, remedy: str) -> None:
    """Do `work` on all ranks, and raise on all what went wrong on the first that failed."""
    problem = ""
    try:
        work()
    except (OSError, ValueError) as error:
        problem = " ".join(str(error).split())
    failed = collective.gather_numpy(np.array([int(bool(problem))]))[:, 0]
    if failed.any():
        first = int(np.argmax(failed))
        problem = collective.broadcast_object(problem, first)
        raise EaiError(
            f"rank {first} cannot {verb} its part in {folder}: {problem}",
            remedy,
            code="shard-files",
        )


def _write_one(path: Path, part: Any) -> int:
    """Write one part, whole or not at all; return its checksum."""
    unfinished = path.with_suffix(".part")
    total = 0
    with unfinished.open("wb") as out:
        head = {"descr": np.dtype(part.dtype).str, "fortran_order": False}
        np.lib.format.write_array_header_1_0(out, {**head, "shape": tuple(part.shape)})
        for first in range(0, part.shape[0], _BLOCK):
            last = min(first + _BLOCK, part.shape[0])
            block = rows_of(part.value, first, last).tobytes()
            total = zlib.crc32(block, total)
            out.write(block)
        out.flush()
        os.fsync(out.fileno())
    unfinished.replace(path)
    return total


class _File:
    """A part on disk, of which only the rows that are asked for come into memory."""

    def __init__(self, path: Path) -> None:
        head = np.load(path, mmap_mode="r")
        self.path = path
        self.dtype: np.dtype[Any] = head.dtype
        self.shape: tuple[int, ...] = head.shape
        self._offset = int(head.offset)

    def rows(self, first: int, last: int) -> np.ndarray:
        """Return rows `first` to `last` - 1; mapped memory would count as the process's own."""
        width = int(np.prod(self.shape[1:]))
        size = width * self.dtype.itemsize
        offset = self._offset + first * size
        flat = np.fromfile(self.path, self.dtype, (last - first) * width, offset=offset)
        return flat.reshape(last - first, *self.shape[1:])

    def check(self, expected: int) -> None:
        """Raise `ValueError` unless the file holds what was written."""
        total = 0
        for first in range(0, self.shape[0], _BLOCK):
            last = min(first + _BLOCK, self.shape[0])
            total = zlib.crc32(self.rows(first, last).tobytes(), total)
        if total != expected:
            message = f"{self.path.name} is damaged"
            raise ValueError(message)


def _blocks(shard: Shard, files: Sequence[_File]) -> Iterator[tuple[int, np.ndarray]]:
    """Yield a rank's rows in blocks, each with its first row's position, from other ranks' files."""
    there = len(files)
    for first in range(0, shard.used, _BLOCK):
        last = min(first + _BLOCK, shard.used)
        numbers = np.arange(first, last) * shard.ranks + shard.rank
        rows = np.empty((last - first, *files[0].shape[1:]), files[0].dtype)
        for rank, file in enumerate(files):
            here = numbers % there == rank
            if here.any():
                positions = numbers[here] // there
                rows[here] = file.rows(positions[0], positions[-1] + 1)[positions - positions[0]]
        yield first, rows


def _shard(part: Any) -> Shard:
    shard = shard_of(part)
    assert shard is not None  # noqa: S101 -- for the type checker
    return shard
