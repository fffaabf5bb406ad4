"""The one guard around our own bookkeeping: what fails there is reported, and the cell goes on.

A run record, a log file, a live display or a telemetry message is not the user's training. Every
place that keeps or shows something does it inside `Bookkeeping.doing`: an exception is caught
there, reported once a cell with its remedy, and never reaches the user's code.
"""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_BUG: Final = "please report this with the line above"


@dataclass(frozen=True)
class Task:
    """Something that is kept or shown for the user; ``remedy`` is what to do when it fails."""

    name: str
    remedy: str = _BUG


RECORD: Final = Task(
    "the record of this run",
    "make room or allow writing there, or name another folder in EAI_RUNS",
)
PRUNING: Final = Task(
    "removing old run records", "see `eai-notebook runs`, EAI_RUNS_GB and EAI_RUNS_DAYS"
)
OUTPUT: Final = Task("showing the cell's output", "see that the folder in EAI_RUNS can be written")
LEDGER: Final = Task("the live ledger")
DISPLAY: Final = Task("the display in the notebook")
PANEL: Final = Task("the panel's view of the group")
REGISTRY: Final = Task(
    "the entry of this group in Jupyter's runtime folder",
    "make room there, or name another folder in JUPYTER_RUNTIME_DIR",
)
PROGRESS: Final = Task(
    "noting how far the training has come", "make room in the job's folder, or allow writing there"
)
TELEMETRY: Final = Task("sending what this rank measures")
VITALS: Final = Task("measuring the CPU and memory of this rank")
TRACE: Final = Task("recording steps in depth", "ask again with `%eai trace`")


def say(line: str, *, error: bool = False) -> None:
    """Print a line of ours into the cell's output, or not at all.

    A program may have closed its output, replaced it by something of its own, or redirected it to
    None: then a line of ours is lost, and its training goes on.

    Args:
        line: Without a line end.
        error: Whether it goes to standard error.

    Examples:
        >>> with contextlib.redirect_stdout(None):
        ...     say("unheard")
        >>> say("heard")
        heard
    """
    with contextlib.suppress(Exception):
        stream = sys.stderr if error else sys.stdout
        # One write, because several ranks and threads print at the same time.
        stream.write(f"{line}\n")
        stream.flush()


class Bookkeeping:
    """Does bookkeeping that may fail; ``report(line)`` shows a failure to the user.

    Examples:
        >>> books = Bookkeeping(print)
        >>> with books.doing(RECORD):
        ...     raise OSError("the disk is full")
        the record of this run stopped (OSError: the disk is full). The cell goes on. To mend it: \
make room or allow writing there, or name another folder in EAI_RUNS.
        >>> with books.doing(RECORD):
        ...     raise OSError("the disk is full")
    """

    def __init__(self, report: Callable[[str], None]) -> None:
        self._report = report
        self._reported: set[Task] = set()

    @contextlib.contextmanager
    def doing(self, task: Task, where: object = "") -> Iterator[None]:
        """Run the block; an `Exception` in it is reported, once a cell for each task.

        ``where`` is the file or folder that it is about. `KeyboardInterrupt` passes: it is the
        user's.
        """
        try:
            yield
        except Exception as error:  # noqa: BLE001  # that is what this class is for
            if task not in self._reported:
                self._reported.add(task)
                self._show(_line(task, where, error))

    def begin_cell(self) -> None:
        """Report again what fails again: another cell, another run."""
        self._reported.clear()

    def _show(self, line: str) -> None:
        """Report `line`; where even that fails, on the process's own stderr, or not at all."""
        for report in (self._report, _to_own_stderr):
            with contextlib.suppress(Exception):
                report(line)
                return


def _line(task: Task, where: object, error: Exception) -> str:
    why = f"{type(error).__name__}: {error}".rstrip(": ")
    place = f" in {where}" if str(where) else ""
    return f"{task.name}{place} stopped ({why}). The cell goes on. To mend it: {task.remedy}."


def _to_own_stderr(line: str) -> None:
    if sys.__stderr__ is not None:
        sys.__stderr__.write(line + "\n")
