"""The step clock: count and time the steps of a run, send them in batches.

Every step has a row, with its length and its samples; its parts are those of the steps
that were marked, see `sampling`.

Taking a step is one reading of the clock and three list appends: what few steps have, such as named
times, is kept beside them by the step's index. A few times a second, the steps taken since are
handed to a thread that turns them into rows and gives these to the process's sink. That happens
when the next step begins: the thread then works while TensorFlow computes, not while Python
runs what the step's end sets going.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib.metadata
import math
import operator
import os
import socket
import statistics
import sys
import threading
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from eai_notebook import collective
from eai_notebook.ledger import cores
from eai_notebook.ledger.step_schema import NOTED
from eai_notebook.ledger.trial_outcome import notes_of
from eai_notebook.telemetry import input_waits, messages
from eai_notebook.train.named import Named
from eai_notebook.train.recording import graph_timestamps
from eai_notebook.train.recording.background_sender import Sender
from eai_notebook.train.recording.step_rows import HEAD, SAMPLES, group_leads, step_rows
from eai_notebook.train.recording.step_sampling import (
    ASSUMED_S,
    ENOUGH_S,
    MarksCost,
    is_measured,
    stride,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

FLUSH_S: Final = 0.25
"""The least time between two batches of rows of a rank, in seconds."""

SLOWEST_S: Final = 0.5
"""The time between two batches in a long run, in seconds.

It is most of the delay of a step on its way to the screen: 95 of 100 steps wait up to 0.48 s for
their batch, and the rest of the way takes 0.1 to 0.2 s. A batch takes 0.2 to 0.4 ms of a core while
caches are warm, a few times that while they are not, and its size hardly matters: so it comes no more
often in a long run than it must, for steps to be seen within 0.8 s.
"""

AGE: Final = 0.1
"""The time between two batches grows with the run: to this share of its age."""

MESSAGES_PER_S: Final = 128
"""What all ranks together send at most: from 65 ranks on, the more the larger their batches."""

ALL_OF_FIRST: Final = 50
"""Steps at the beginning of a run that are measured whatever their length."""

TIMED: Final = 16
"""One in so many steps is timed for what counting it takes, and stands for all."""

LOOK_S: Final = 4.0
"""The time between two looks at how the process's threads get processors, in seconds."""

_NS: Final = 1e-9

_BUT_SAMPLES: Final = np.arange(HEAD + graph_timestamps.WIDTH) != SAMPLES
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
    """What the marks in the graph cost a step at least, in seconds."""
    marked: int = 0
    """Steps that had marks."""
    input_before: input_waits.Sums = field(default_factory=input_waits.sums)
    """What the data was waited for before this run."""
    notes: dict[str, Any] = field(default_factory=dict)
    """What was found out on the way, for the record."""
    named: Named = field(default_factory=Named)
    """What of `other` has a name."""
    opens_epoch: bool = False
    """Whether the step that comes is an epoch's first."""
    cores_before: cores.Use = field(default_factory=dict)
    """How this process had got processors before its steps; compiling them is none."""
    epoch: int = 0
    """The epoch that goes on, from 0."""
    _cost: MarksCost = field(init=False)
    _logs: Any = None  # the newest loss and metrics, as Keras's step returned them
    _thread: int = field(default_factory=threading.get_native_id)
    _looked: float = field(default_factory=time.monotonic)
    _every: int = 1
    _begin: float = field(default_factory=time.time)
    _opened: float = field(default_factory=time.monotonic)
    _pause: float = field(init=False)  # the time between two batches
    _due: float = field(init=False)  # when the next one is
    _is_due: bool = False
    _warm_up_over: bool = False  # the first step has ended just now
    _at_begin: bool = False  # whether steps are handed over when the next one begins
    # Of the steps since the last batch: when each began and ended, and its marks or samples; and
    # which had marks, and the named times of those that have some, by index.
    _begins: list[float] = field(default_factory=list)
    _ends: list[float] = field(default_factory=list)
    _marks: list[Any] = field(default_factory=list)
    _marked: list[int] = field(default_factory=list)
    _named: dict[int, Any] = field(default_factory=dict)
    _leads: np.ndarray = field(default_factory=lambda: np.zeros((2, graph_timestamps.GROUPS)))
    """Sums and counts of `group_leads`, by group; the sender's thread adds to them."""

    def __post_init__(self) -> None:
        self._cost = MarksCost(self.marks_s)
        self.cores_before = self._cores_now()
        self._schedule()

    def watch_cores_anew(self) -> None:
        """Let what was done until now, such as compiling, not count as what steps got of processors."""

        def watch() -> None:
            self.cores_before = self._cores_now()

        _sender.submit(watch)

    def _cores_now(self) -> cores.Use:
        return cores.now(collective.exchange_threads(), self._thread)

    @property
    def cost_s(self) -> float:
        """What the marks cost a step, in seconds, as far as the run has shown it."""
        return self._cost.seconds

    def resume(self) -> None:
        """Begin the next step now: what went before it belongs to no step.

        Called at the start of an epoch, so that validation and checkpoints between two
        epochs are not booked to the first step of the next.
        """
        self._begin = time.time()
        self.named.drop()

    def note_iterator(self) -> None:
        """Note, in an epoch's first step, that the time since it began went to an iterator."""
        if self.opens_epoch:
            self.opens_epoch = False
            self.named.add("iterator", max(0.0, time.time() - self._begin - self.named.in_step))

    @property
    def measures_next(self) -> bool:
        """Whether the current step is one to take marks of."""
        next_step = self.taken + len(self._ends)
        return is_measured(next_step, self._every) or messages.has_step_listener()

    def begin_step(self) -> bool:
        """Hand over the steps before this one when it is time; return `measures_next`.

        Called right before TensorFlow computes. Without it `take` hands them over.
        """
        self._at_begin = True
        if self._is_due:
            self._timed_flush()
        if self.opens_epoch:
            self.note_iterator()
        return self.measures_next

    def take(self, taken: Any, *, marked: bool = True, logs: Any = None) -> None:
        """End the current step: `taken` is a tensor or array of shape [HEAD + WIDTH].

        Where it is not `marked`, `taken` may be its samples alone. ``logs`` are the loss and metrics
        so far; they are read later, in the thread that sends.
        """
        entered = 0 if len(self._ends) % TIMED else time.perf_counter_ns()
        now = time.time()
        if not now < self._due <= now + self._pause:  # a clock that was set back is not waited for
            self._is_due = True
        if self._is_due and not self._at_begin:
            # What it takes to hand over the steps before is this step's, so that no step ends long
            # before a callback can see its end.
            self._timed_flush()
            now = time.time()
        index = len(self._ends)
        if not index and not self.taken:
            self._warm_up_over = self._is_due = True
        if marked:
            self.marked += 1
            self._marked.append(index)
        if self.named.of_step:
            self._named[index] = self.named.take()
        self._begins.append(self._begin)
        self._ends.append(now)
        self._marks.append(taken)
        self._logs = logs
        self._begin = now
        if entered:
            self.spent_ns += TIMED * (time.perf_counter_ns() - entered)
        if messages.has_step_listener() and messages.step_ended(self.run, self.taken + index):
            self.resume()

    def _timed_flush(self) -> None:
        entered = time.perf_counter_ns()
        self.flush()
        if self._warm_up_over:
            self._warm_up_over = False
            self.watch_cores_anew()  # the first step still optimizes and plans the graph
        self.spent_ns += time.perf_counter_ns() - entered

    def flush(self) -> None:
        """Send the steps taken since the last time."""
        self._is_due = False
        self._schedule()
        if not self._marks:
            return
        first, begins, ends, taken = self.taken, self._begins, self._ends, self._marks
        named, marked = self._named, self._marked
        self.taken += len(ends)
        self._begins, self._ends, self._marks, self._marked, self._named = [], [], [], [], {}
        logs, self._logs = self._logs, None
        step, epoch = self.taken, self.epoch
        if self.taken >= ALL_OF_FIRST:
            self._every = self._stride(list(map(operator.sub, ends, begins)), marked)
        spent = dict(self.named.spent)

        def send() -> None:
            rows, leads = _rows(first, begins, ends, taken, in_ring=self.size > 1)
            self._leads += np.nansum(leads, axis=0), np.isfinite(leads).sum(axis=0)
            for name in NOTED:
                rows[name] = 0.0
            for index, noted in named.items():
                for name, seconds in zip(NOTED, noted, strict=True):
                    rows[name][index] = seconds
            use = self._cores()
            news: list[messages.Message] = [
                messages.StepsDone(self.run, self.rank, rows, spent, use)
            ]
            if values := plain_values(logs):
                news.append(messages.TrainingProgress(self.run, self.rank, step, epoch, values))
            messages.emit(*news)

        _sender.submit(send)

    def _stride(self, lengths: list[float], marked: list[int]) -> int:
        """Return how many steps there are to one that is measured, by the lengths of the latest.

        ``marked`` are the indexes of those that had marks.
        """
        usual = statistics.median(lengths)
        had = set(marked)
        plain = [length for index, length in enumerate(lengths) if index not in had]
        self._cost.note([lengths[index] for index in marked], plain)
        cost = self._cost.seconds
        if self.size > 1 and usual < ENOUGH_S and not self._cost.is_known:
            cost = max(cost, ASSUMED_S)
        return stride(usual, cost)

    def mean_leads(self) -> list[float]:
        """Return how long before the last group of gradients each one was ready, of a step's computing.

        The mean over all measured steps, first group first; empty where nothing was exchanged. A
        forecast says from it what of an exchange can be hidden. Call it once all rows were sent.
        """
        return [round(float(total / count), 4) for total, count in self._leads.T if count]

    def end_epoch(self, epoch: int, logs: Any) -> None:
        """Send the metrics of all ranks at an epoch's end; rank 0 speaks for all."""
        values = plain_values(logs)
        self._logs = None  # what is left of the epoch's own is older than this
        if values and self.rank == 0:
            step = self.taken + len(self._ends)
            messages.emit(messages.TrainingProgress(self.run, 0, step, epoch, values, whole=True))

    def _cores(self, *, last: bool = False) -> cores.Use:
        """Return how the process got processors in this run; empty most times, it is not free."""
        if not last and time.monotonic() - self._looked < LOOK_S:
            return {}
        self._looked = time.monotonic()
        return cores.since(self.cores_before, self._cores_now())

    def _schedule(self) -> None:
        """Set when the next batch is due: at a multiple of the interval on the clock on the wall.

        So all ranks send after the same step. A step is known once the last rank has sent it: with
        batches spread over the interval, each one would wait for nearly all of it.
        """
        now, self._pause = time.time(), self._interval
        self._due = (now // self._pause + 1) * self._pause

    @property
    def _interval(self) -> float:
        """The time between two batches, in seconds; multiples of one are multiples of the shorter."""
        grown = min(AGE * (time.monotonic() - self._opened), SLOWEST_S)
        least = max(self.size / MESSAGES_PER_S, grown)
        return FLUSH_S * 2 ** max(0, math.ceil(math.log2(least / FLUSH_S))) if least else FLUSH_S


def plain_values(logs: Any) -> dict[str, float]:
    """Return the loss and metrics of Keras's logs that are single numbers.

    Examples:
        >>> plain_values({"loss": np.float32(0.5), "confusion": np.zeros(3), "per": {"a": 1}})
        {'loss': 0.5}
    """
    found = {}
    for name, value in logs.items() if isinstance(logs, dict) else ():
        with contextlib.suppress(TypeError, ValueError, AttributeError):
            array = np.asarray(value)
            if array.ndim == 0:
                found[str(name)] = float(array)
    return found


def _rows(
    first: int, begins: list[float], ends: list[float], taken: list[Any], *, in_ring: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of the steps that were taken, and `group_leads`; the run's first without its parts."""
    marked = np.full((len(taken), HEAD + graph_timestamps.WIDTH), np.nan)
    marked[:, SAMPLES] = [each if type(each) is float else np.nan for each in taken]
    for row, each in zip(marked, taken, strict=True):
        if type(each) is not float:
            values = np.asarray(each)
            row[slice(None) if values.ndim else SAMPLES] = values
    if first == 0:
        marked[0, _BUT_SAMPLES] = np.nan
    rows = step_rows(first, np.array(begins), np.array(ends), marked, in_ring=in_ring)
    return rows, group_leads(marked, rows)


_sender = Sender()

_current: StepClock | None = None


def current() -> StepClock | None:
    """Return the clock of the run that is open on this rank, if one is."""
    return _current


def facts_of(model: Any, epochs: int | None, steps: int | None, tracing_s: float) -> dict[str, Any]:
    """Return what a run's record says of any training of a compiled Keras model."""
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    found: dict[str, Any] = {}
    with contextlib.suppress(Exception):  # a schedule, or a variable of another backend
        found["learning_rate"] = float(optimizer.learning_rate)
    return found | {
        "model": model.name,
        "parameters": sum(int(np.prod(weight.shape)) for weight in model.weights),
        "optimizer": type(optimizer).__name__,
        "epochs": epochs,
        "steps_per_epoch": steps,
        "tracing_s": round(tracing_s, 3),
    }


class Position(NamedTuple):
    """Where this rank is in a run that goes on with fewer ranks: they agree on it without a ring."""

    run: str
    rank: int
    size: int


def announce(name: str) -> None:
    """Have the space of a run's picture kept: the run begins only when its first step is compiled.

    What was printed before stays above it.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # closed, or a pipe that nobody reads
            stream.flush()
    messages.emit(messages.TrainingPrepared(collective.rank(), name))


def begin_run(
    name: str, meta: dict[str, Any], *, alone: bool = False, position: Position | None = None
) -> StepClock:
    """Open a run, ending the one that is open; all ranks of the ring must call it.

    Its first step begins now. `alone`: it is the run of this rank only, the others know nothing
    of it.
    """
    global _current
    end_run("done")
    run = f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:6]}"
    rank, size, offset, uncertainty = 0, 1, 0.0, 0.0
    if position is not None:
        run, rank, size = position
    elif not alone:
        run = collective.broadcast_object(run)
        rank, size = collective.rank(), collective.size()
        offset, uncertainty = collective.clock_offset()
    marks_s = graph_timestamps.cost_s()  # takes a while the first time: the run begins after it
    messages.emit(
        messages.RunBegan(
            run=run,
            rank=rank,
            size=size,
            name=name,
            host=socket.gethostname(),
            pid=os.getpid(),
            clock_offset=offset,
            clock_uncertainty=uncertainty,
            meta={"versions": _versions(), **meta},
        )
    )
    _current = StepClock(run, rank, size, marks_s=marks_s)
    _current.named.watch_collector()
    return _current


@functools.cache
def _versions() -> dict[str, str]:
    """Return the versions of what a step's length may depend on."""
    found = {}
    for package in ("eai_notebook", "tensorflow", "tensorflow-cpu", "keras", "horovod"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def end_run(outcome: str) -> None:
    """Send what is left of the open run and close it as `outcome`; nothing if none is open."""
    global _current
    clock, _current = _current, None
    if clock is None:
        return
    clock.named.close()
    messages.step_ended(clock.run, None)
    entered = time.perf_counter_ns()
    clock.flush()
    _sender.drain()
    if leads := clock.mean_leads():
        clock.notes["group_leads"] = leads
    spent = (clock.spent_ns + time.perf_counter_ns() - entered + _sender.spent_ns) * _NS
    _sender.spent_ns = 0
    spent += clock.marked * clock.cost_s
    waited = input_waits.since(clock.input_before, input_waits.sums())
    use = clock._cores(last=True)  # noqa: SLF001  # same file
    messages.emit(
        messages.RunEnded(
            *(clock.run, clock.rank, outcome, spent, waited, clock.notes),
            named=dict(clock.named.spent),
            cores=use,
        )
    )


@contextlib.contextmanager
def closing() -> Iterator[None]:
    """Close the run that is open at the block's end as what the block has come to."""
    try:
        yield
    except KeyboardInterrupt:
        end_run("interrupted")
        raise
    except BaseException:
        end_run("failed")
        raise
    end_run("done")


def note(**found: Any) -> None:
    """Have what was found out during the open run go into its record, as JSON can hold it."""
    if _current is not None:
        _current.notes.update(found)


def note_trial(trial: dict[str, Any]) -> None:
    """Have the outcome of a trial go into the open run's record, behind those of earlier ones."""
    if _current is not None:
        _current.notes.update(notes_of(_current.notes, trial))


def steps_taken() -> int | None:
    """Return how many steps the open run has taken; None if no run is open."""
    clock = _current
    return None if clock is None else clock.taken + len(clock._ends)  # noqa: SLF001  # same file


messages.set_step_counter(steps_taken)

# A loop of one's own has no end that a clock could see: the cell's or the process's is it.
messages.on_cell_end(end_run)
atexit.register(end_run, "done")
