"""The lock on a run record that is being written: it goes with its process, whatever the clock says."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_FILE: Final = "run.lock"
_TRIES: Final = 20
_PAUSE_S: Final = 0.05


class RunLock:
    """Holds a record's lock from its making to `release`, or to the end of the process.

    Where the file system has no locks, nothing is held, and nothing is raised.
    """

    def __init__(self, folder: Path) -> None:
        self._number = -1
        with contextlib.suppress(OSError):
            self._number = os.open(folder / _FILE, os.O_RDWR | os.O_CREAT, 0o644)
            self._lock()

    def _lock(self) -> None:
        for _ in range(_TRIES):
            with contextlib.suppress(BlockingIOError):  # somebody looks whether it is free
                fcntl.flock(self._number, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            time.sleep(_PAUSE_S)

    def release(self) -> None:
        """Let go of it."""
        if self._number >= 0:
            os.close(self._number)
            self._number = -1


def is_locked(folder: Path) -> bool:
    """Return whether some process on this machine, or on its network disk, writes to a record."""
    with unlocked(folder) as free:
        return not free


@contextlib.contextmanager
def unlocked(folder: Path) -> Iterator[bool]:
    """Hold a record's lock during the block if nobody has it; yield whether nobody had."""
    try:
        number = os.open(folder / _FILE, os.O_RDWR | os.O_NOFOLLOW)
    except OSError:  # there is none, or it is a link: of an older version, or damaged
        yield True
        return
    try:
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        except OSError:  # no locks on this file system
            pass
        yield True
    finally:
        os.close(number)
