"""Which run records and cell logs to remove: those beyond an age or a total size, oldest first.

A run of 8 ranks at 200 steps/s writes 14 GB a day. So what is beyond the limits is removed when a run
begins; `eai-notebook runs` says what there is. A run that goes on, or that is starred, stays.
"""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import stat
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from eai_notebook.errors import EaiError
from eai_notebook.ledger.run_lock import is_locked, unlocked
from eai_notebook.ledger.run_record import RunRecord, list_runs

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

GB_VARIABLE: Final = "EAI_RUNS_GB"
DAYS_VARIABLE: Final = "EAI_RUNS_DAYS"
"""The variables that set other limits than these; ``none`` is no limit."""
KEPT_GB: Final = 10.0
KEPT_DAYS: Final = 90.0
LOG_BYTES: Final = 10**9
"""So much is kept of the logs of cells that printed more than a notebook shows."""
QUIET_S: Final = 3600.0
"""A record that is open and was written to more recently belongs to a run that goes on."""
DAY_S: Final = 86_400.0


class Limits(NamedTuple):
    """How much is kept of what runs write: bytes of records, and days since the last row."""

    size: float
    days: float

    def __str__(self) -> str:
        """Say them."""
        size = "any size" if math.isinf(self.size) else f"{self.size / 1e9:g} GB"
        days = "any age" if math.isinf(self.days) else f"{self.days:g} days"
        return f"{size} and {days}"


def limits() -> Limits:
    """Return the limits: 10 GB and 90 days, if the environment does not set others.

    Raises:
        EaiError: A variable is no number.
    """
    return Limits(_limit(GB_VARIABLE, KEPT_GB) * 1e9, _limit(DAYS_VARIABLE, KEPT_DAYS))


def _limit(name: str, usual: float) -> float:
    text = os.environ.get(name, "").strip()
    if not text:
        return usual
    if text.lower() == "none":
        return math.inf
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not value >= 0:
        remedy = f"set it to a number, or to none, or unset it ({usual:g})"
        what = f"the environment variable {name} is {text!r}"
        raise EaiError(what, remedy, code="environment-invalid")
    return value


@dataclass(frozen=True)
class KeptRun:
    """A run record on disk: where, what state it is in, how large and when last written to.

    Attributes:
        locked: A process writes to it now.
        starred: The user has marked it.
    """

    path: Path
    state: str
    size: int
    written: float
    locked: bool = False
    starred: bool = False

    def is_open(self, now: float) -> bool:
        """Return whether the run may still go on."""
        return self.locked or (self.state == "running" and abs(now - self.written) < QUIET_S)


def kept_runs(root: Path | None = None) -> list[KeptRun]:
    """Return the run records of this user below `root` (default `runs_folder()`), newest first."""
    found = (kept_run(path) for path in list_runs(root))
    return [run for run in found if run is not None]


def kept_run(path: Path) -> KeptRun | None:
    """Return a run record of this user; None if it is another's, a link, or removed meanwhile."""
    try:
        return _kept_run(path)
    except FileNotFoundError:
        return None


def _kept_run(path: Path) -> KeptRun | None:
    about = path.lstat()
    if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.geteuid():
        return None
    state, starred = "damaged", False
    with contextlib.suppress(EaiError):
        record = RunRecord(path)
        state, starred = record.info.state, bool(record.labels().get("starred"))
    files = []
    for each in path.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # a draft that has just got its name
            files.append(each.lstat())
    sizes = sum(each.st_size for each in files if stat.S_ISREG(each.st_mode))
    written = max([about.st_mtime, *(each.st_mtime for each in files)])
    return KeptRun(path, state, sizes, written, is_locked(path), starred)


def beyond(runs: Iterable[KeptRun], most: Limits, now: float | None = None) -> list[KeptRun]:
    """Return those of `runs` (newest first) that are older than the limit, or do not fit any more.

    A run that goes on, or is starred, is never among them; its bytes count.
    """
    now = time.time() if now is None else now
    total, chosen = 0, []
    for run in runs:
        is_old = now - run.written > most.days * DAY_S
        kept = run.starred or run.is_open(now)
        if not kept and (is_old or total + run.size > most.size):
            chosen.append(run)
        else:
            total += run.size
    return chosen


def remove(runs: Iterable[KeptRun]) -> list[KeptRun]:
    """Remove these records, but for those that somebody writes to by now; return the others."""
    removed = []
    for run in runs:
        with unlocked(run.path) as free:
            if free and run.path.exists():
                shutil.rmtree(run.path, ignore_errors=True)  # another session may be at it, too
                removed.append(run)
    return removed


def prune(root: Path, most: Limits) -> str:
    """Remove what is beyond the limits: records below `root`, and logs of cells beside it.

    Returns:
        What was removed, in a line; empty if nothing was.
    """
    removed = remove(beyond(kept_runs(root), most))
    logs = _remove_logs(root.parent / "logs", most.days)
    if not removed and not logs:
        return ""
    count = f"{len(removed)} run records" + (f" and {logs} logs of cells" if logs else "")
    size = sum(run.size for run in removed) / 1e9
    return (
        f"removed {count} ({size:.2f} GB) beyond {most}; star a run to keep it, or set "
        f"{GB_VARIABLE} or {DAYS_VARIABLE} (none: no limit)"
    )


def _remove_logs(folder: Path, days: float) -> int:
    """Remove the logs of cells that are too old, or too many; return how many those were."""
    now, total, removed = time.time(), 0, 0
    for path in sorted(folder.glob("cell-*.log"), reverse=True):  # newest first, by name
        with contextlib.suppress(OSError):
            about = path.lstat()
            if not stat.S_ISREG(about.st_mode) or about.st_uid != os.geteuid():
                continue
            total += about.st_size
            quiet = abs(now - about.st_mtime) > QUIET_S
            if quiet and (now - about.st_mtime > days * DAY_S or total > LOG_BYTES):
                path.unlink()
                removed += 1
    return removed
