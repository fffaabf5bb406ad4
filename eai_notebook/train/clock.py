"""The step clock: one run at a time, its steps counted and sent in batches.

Taking a step's marks is a list append. Ten times a second at most, the steps taken
since are turned into rows and handed to the process's sink, on the training thread:
measured, that is cheaper than a thread of our own that wants the interpreter while the
next step is being started.
"""

from __future__ import annotations

import atexit
import os
import socket
import time
import uuid
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from eai_notebook import collective
from eai_notebook.ledger import messages
from eai_notebook.train import marks
from eai_notebook.train.rows import HEAD, SAMPLES, step_rows

FLUSH_S: Final = 0.1
"""The least time between two batches of rows, in seconds."""

_NS: Final = 1e-9

_BUT_SAMPLES: Final = np.arange(HEAD + marks.WIDTH) != SAMPLES
"""A run's first step still optimizes and plans the compiled graph: its parts are no
measurements of a step, so they are missing. It has its wall time, and its samples count."""


@dataclass
class StepClock:
    """One run on this rank: made by `begin_run`, ended by `end_run`."""

    run: str
    rank: int
    size: int
    taken: int = 0
    """Steps that were counted so far."""
    spent_ns: int = 0
    """Time that counting and sending steps took so far, in nanoseconds."""
    marks_s: float = 0.0
    """What the marks in the graph cost a step, in seconds."""
    _begin: float = field(default_factory=time.time)
    _flushed: float = field(default_factory=time.monotonic)
    _begins: list[float] = field(default_factory=list)
    _ends: list[float] = field(default_factory=list)
    _marks: list[Any] = field(default_factory=list)

    def resume(self) -> None:
        """Begin the next step now: what went before it belongs to no step.

        Called at the start of an epoch, so that validation and checkpoints between two
        epochs are not booked to the first step of the next.
        """
        self._begin = time.time()

    def take(self, taken: Any) -> None:
        """End the current step: `taken` is a tensor or array of shape [HEAD + WIDTH]."""
        entered = time.perf_counter_ns()
        now = time.time()
        self._begins.append(self._begin)
        self._ends.append(now)
        self._marks.append(taken)
        self._begin = now
        if time.monotonic() - self._flushed >= FLUSH_S:
            self.flush()
        self.spent_ns += time.perf_counter_ns() - entered

    def flush(self) -> None:
        """Send the steps taken since the last time."""
        self._flushed = time.monotonic()
        if not self._marks:
            return
        taken = np.stack([np.asarray(each) for each in self._marks])
        if self.taken == 0:
            taken[0, _BUT_SAMPLES] = np.nan
        rows = step_rows(
            self.taken,
            np.array(self._begins),
            np.array(self._ends),
            taken,
            in_ring=self.size > 1,
        )
        self.taken += len(rows)
        self._begins, self._ends, self._marks = [], [], []
        messages.emit(messages.StepsDone(self.run, self.rank, rows))


_current: StepClock | None = None


def current() -> StepClock | None:
    """Return the clock of the run that is open on this rank, if one is."""
    return _current


def begin_run(name: str, meta: dict[str, Any]) -> StepClock:
    """Open a run, ending the one that is open; all ranks of the ring must call it.

    Its first step begins now.
    """
    global _current
    end_run("done")
    run = collective.broadcast_object(f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:6]}")
    offset, uncertainty = collective.clock_offset()
    messages.emit(
        messages.RunBegan(
            run=run,
            rank=collective.rank(),
            size=collective.size(),
            name=name,
            host=socket.gethostname(),
            pid=os.getpid(),
            clock_offset=offset,
            clock_uncertainty=uncertainty,
            meta=meta,
        )
    )
    _current = StepClock(run, collective.rank(), collective.size(), marks_s=marks.cost_s())
    return _current


def end_run(outcome: str) -> None:
    """Send what is left of the open run and close it as `outcome`; nothing if none is open."""
    global _current
    clock, _current = _current, None
    if clock is None:
        return
    entered = time.perf_counter_ns()
    clock.flush()
    spent = (clock.spent_ns + time.perf_counter_ns() - entered) * _NS
    spent += clock.taken * clock.marks_s
    messages.emit(messages.RunEnded(clock.run, clock.rank, outcome, spent))


def steps_taken() -> int | None:
    """Return how many steps the open run has taken; None if no run is open."""
    clock = _current
    return None if clock is None else clock.taken + len(clock._ends)  # noqa: SLF001  # same file


messages.count_steps_with(steps_taken)

# A loop of one's own has no end that a clock could see: the cell's or the process's is it.
messages.on_cell_end(end_run)
atexit.register(end_run, "done")
