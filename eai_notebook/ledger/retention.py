"""Which run records to remove: those beyond an age or a total size, oldest first.

A run of 8 ranks at 200 steps/s writes 14 GB a day. Nothing is removed by itself; `eai-notebook
runs` says what there is, and removes with ``--prune``.
"""

from __future__ import annotations

import os
import shutil
import stat
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from eai_notebook.errors import EaiError
from eai_notebook.ledger.run_record import RunRecord, list_runs

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

KEPT_BYTES: Final = 10 * 10**9
"""So much of records is kept if not asked otherwise: those of the newest runs."""
QUIET_S: Final = 3600.0
"""A record that is open and was written to more recently belongs to a run that goes on."""
DAY_S: Final = 86_400.0


@dataclass(frozen=True)
class KeptRun:
    """A run record on disk: where, what state it is in, how large and when last written to."""

    path: Path
    state: str
    size: int
    written: float

    def is_open(self, now: float) -> bool:
        """Return whether the run may still go on."""
        return self.state == "running" and now - self.written < QUIET_S


def kept_runs(root: Path | None = None) -> list[KeptRun]:
    """Return the run records of this user below `root` (default `runs_folder()`), newest first."""
    found = (kept_run(path) for path in list_runs(root))
    return [run for run in found if run is not None]


def kept_run(path: Path) -> KeptRun | None:
    """Return a run record of this user; None if it is another's, or a link."""
    about = path.lstat()
    if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.geteuid():
        return None
    try:
        state = RunRecord(path).info.state
    except EaiError:
        state = "damaged"
    files = [each.lstat() for each in path.rglob("*")]
    sizes = sum(each.st_size for each in files if stat.S_ISREG(each.st_mode))
    written = max([about.st_mtime, *(each.st_mtime for each in files)])
    return KeptRun(path, state, sizes, written)


def beyond(
    runs: Iterable[KeptRun],
    kept_bytes: float = KEPT_BYTES,
    days: float | None = None,
    now: float | None = None,
) -> list[KeptRun]:
    """Return those of `runs` (newest first) that are older than `days`, or do not fit any more.

    A run that goes on is never among them; its bytes count.
    """
    now = time.time() if now is None else now
    total, chosen = 0, []
    for run in runs:
        is_old = days is not None and now - run.written > days * DAY_S
        if not run.is_open(now) and (is_old or total + run.size > kept_bytes):
            chosen.append(run)
        else:
            total += run.size
    return chosen


def remove(runs: Iterable[KeptRun]) -> int:
    """Remove these records; return how many bytes that were."""
    total = 0
    for run in runs:
        shutil.rmtree(run.path)
        total += run.size
    return total
