"""Runs drills on a real group, and looks at what is left of it."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from eai_notebook.errors import EaiError
from eai_notebook.process_lease import is_running, started
from eai_notebook.session import RankError, Session, Watcher

if TYPE_CHECKING:
    from drills.catalog import Comes
    from typing_extensions import Self

from drills.catalog import PREPARE, Drill
from waiting import do_when


class Count(Watcher):
    """Counts what would be shown, and shows nothing."""

    def __init__(self) -> None:
        self.writes = 0
        self.characters = 0

    def text(self, stream: str, text: str) -> None:
        """Count a write."""
        del stream
        self.writes += 1
        self.characters += len(text)


@dataclass(frozen=True)
class Result:
    """What came of one drill.

    ``seconds`` is from the fault (the press of Stop, else the cell's start) to the end of
    the cell, also where a rank did not listen and the next cell was refused;
    ``usable`` whether the next cell worked, after a restart if the group was lost;
    ``kept`` whether every rank still had its variable; ``left`` the ranks' processes that
    a lost group left behind.
    """

    came: Comes
    said: str
    seconds: float
    usable: bool
    kept: bool
    left: int
    writes: int


class Counts(NamedTuple):
    """What a rank holds: threads, open files, and bytes of memory."""

    threads: int
    files: int
    memory: int


class DrillRunner:
    """Holds a group of `size` ranks and rebuilds it after the drills that cost it."""

    def __init__(self, size: int) -> None:
        self.watcher = Count()
        self.session = Session(size, watcher=self.watcher)
        self._fault_at = 0.0

    def __enter__(self) -> Self:
        """Start the group."""
        self.session.up()
        self.session.run(PREPARE, setup=True)
        return self

    def __exit__(self, *_: object) -> None:
        """End the group."""
        self.session.down()

    def run(self, drill: Drill) -> Result:
        """Let it go wrong once, in a group that is whole whatever happened before."""
        if not self.session.is_up:
            self.session.restart()
        self.session.run("canary = 40 + rank")
        ranks = started(self.session.pids.values())
        self.watcher.writes = 0
        self._fault_at = time.monotonic()
        came, said = self._cell(drill)
        seconds = time.monotonic() - self._fault_at
        writes = self.watcher.writes
        if came == "interrupt" and "did not listen" in said:
            came, said = self._after_an_unresponsive_rank(said)
        left = 0
        if came in ("death", "stuck"):
            if came == "stuck":  # the group stays until the user ends it
                self.session.restart()
            left = sum(map(is_running, ranks))
            self.session.restart()
            self.session.run("canary = 40 + rank")
        usable, kept = self._next_cell()
        return Result(came, said, seconds, usable, kept, left, writes)

    def failing_cells(self, cells: int) -> dict[str, list[Counts]]:
        """Let so many cells in a row fail; return what each rank held before and after."""
        failing = Drill("fail", "if rank == 1: fail()\nloop()", "error")
        for _ in range(5):  # what the first failures load once is not a leak
            self.run(failing)
        before = self._counts()
        for _ in range(cells):
            self.run(failing)
        return {"before": before, "after": self._counts()}

    def _counts(self) -> list[Counts]:
        self.session.run(
            "import gc, psutil, threading; gc.collect(); me = psutil.Process()\n"
            "counts = [threading.active_count(), me.num_fds(), me.memory_info().rss]"
        )
        pulled = [self.session.pull("counts", rank) for rank in range(self.session.size)]
        return [Counts(*counts) for counts in pulled]

    def _cell(self, drill: Drill) -> tuple[Comes, str]:
        code = drill.code
        if drill.after is not None:
            code = f"print('on', flush=True)\n{code}"
            self.watcher.characters = 0
            do_when(lambda: self.watcher.characters, partial(self._press, drill.after))
        try:
            self.session.run(code)
        except RankError as error:
            return "error", str(error)
        except EaiError as error:
            return _kind(str(error)), str(error)
        except KeyboardInterrupt as error:
            return "interrupt", str(error)
        return "fine", ""

    def _press(self, after: float) -> None:
        """Press Stop so many seconds after the ranks have begun with the cell."""
        time.sleep(after)
        self._fault_at = time.monotonic()
        os.kill(os.getpid(), signal.SIGINT)

    def _after_an_unresponsive_rank(self, said: str) -> tuple[Comes, str]:
        """Return what becomes of a cell that left a rank behind, as the next cell reports it."""
        try:
            self.session.run("")
        except EaiError as error:
            return _kind(str(error)), f"{said}; then: {error}"
        return "interrupt", said

    def _next_cell(self) -> tuple[bool, bool]:
        """Return whether a cell with an exchange works, and whether the canaries live."""
        try:
            self.session.run("total = collective.allreduce_numpy(np.ones(1))[0]")
            usable = self.session.pull("total") == self.session.size
            alive = [self.session.pull("canary", rank) for rank in range(self.session.size)]
        except (RankError, EaiError):
            return False, False
        return usable, alive == [40 + rank for rank in range(self.session.size)]


def _kind(said: str) -> Comes:
    if "no rank has moved" in said:
        return "stall"
    return "stuck" if "did not stop" in said else "death"
