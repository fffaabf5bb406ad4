"""The time that ranks had to act in: the wall clock, less what they waited for a processor.

On a busy machine a rank can be ready to run for seconds and get no core. It is not unresponsive then, and
what waits for it must not give it up. Linux accounts for that wait by thread, as ``run_delay``.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

LOOK_S: Final = 0.25
"""How often the accounts are read; there is a file for each of a rank's threads."""

SLOWEST: Final = 0.05
"""The least share of the wall clock that counts, so that nothing waits without end."""

_PROC: Final = Path("/proc")


class OwnTime:
    """A clock for processes `pids` of this machine, in seconds; as the wall clock without any.

    It runs as slowly as the process that is kept waiting most. Ranks of other hosts cannot be
    looked at from here, and the wall clock counts for them.
    """

    def __init__(
        self, pids: Iterable[int], wall: Callable[[], float] = time.monotonic, proc: Path = _PROC
    ) -> None:
        self._pids = list(pids)
        self._wall = wall
        self._proc = proc
        self._looked_at = wall()
        self._own = 0.0
        self._waited = self._read()

    def now(self) -> float:
        """Return the seconds so far; ask often, since a process is seen only while it lives."""
        wall = self._wall()
        passed = wall - self._looked_at
        if passed < LOOK_S:
            return self._own
        before, self._waited = self._waited, self._read()
        kept = [at - before[key] for key, at in self._waited.items() if key in before]
        self._own += max(passed - max(kept, default=0.0), passed * SLOWEST)
        self._looked_at = wall
        return self._own

    def _read(self) -> dict[tuple[int, str], float]:
        """Return how long each thread has waited for a processor since it began, in seconds."""
        waited = {}
        for pid in self._pids:
            with contextlib.suppress(OSError):
                for thread in (self._proc / str(pid) / "task").iterdir():
                    with contextlib.suppress(OSError, ValueError, IndexError):
                        fields = (thread / "schedstat").read_text().split()
                        waited[pid, thread.name] = int(fields[1]) / 1e9
        return waited
