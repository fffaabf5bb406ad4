"""Telemetry messages from ranks to the kernel, and this process's hub for them.

The step clock (rank side) calls `emit`; the owner of the process decides where the
messages go by calling `set_sink`: an engine sends them to the kernel, a plain script
under ``mpirun`` writes the record itself. So `train` and `engine` meet here without
knowing each other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from eai_notebook.bookkeeping import TELEMETRY, TRACE, Bookkeeping, say

if TYPE_CHECKING:
    import numpy as np

WHERE_REQUEST: Final = "eai_where_request"
TRACE_REQUEST: Final = "eai_trace_request"
DIGEST_REQUEST: Final = "eai_digest_request"
TENSORS_REQUEST: Final = "eai_tensors_request"
GROW_REQUEST: Final = "eai_grow_request"
STOP_REQUEST: Final = "eai_stop_request"
TRIAL_REQUEST: Final = "eai_trial_request"
"""What the kernel may ask a rank beside its cell, on the control channel."""


@dataclass(frozen=True)
class RunBegan:
    """A rank entered a run.

    ``clock_offset`` is what to add to this rank's clock to get rank 0's, in seconds,
    and ``clock_uncertainty`` its half-width; both are 0 on one host.
    """

    run: str
    rank: int
    size: int
    name: str
    host: str
    pid: int
    clock_offset: float = 0.0
    clock_uncertainty: float = 0.0
    meta: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TrainingPrepared:
    """A training will begin a run on this rank, once its first step is compiled.

    What the training prints meanwhile belongs below the run's picture.
    """

    rank: int
    name: str


@dataclass(frozen=True)
class StepsDone:
    """Rows of `STEP_DTYPE` from one rank, in step order, not sent before.

    ``named`` are the seconds since the run began that things with a name took, such as
    ``"Slow.on_train_batch_end"``; ``cores`` is how the process got processors, see `cores.Use`.
    Both are empty where nothing is known, or nothing new.
    """

    run: str
    rank: int
    rows: np.ndarray
    named: dict[str, float] = field(default_factory=dict)
    cores: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class TrainingProgress:
    """The loss and metrics of a training after ``step`` steps, in ``epoch`` (from 0).

    ``values`` are one rank's means over the epoch so far or, where ``whole`` is true, those
    of all ranks at the epoch's end, with validation's as ``val_<name>``.
    """

    run: str
    rank: int
    step: int
    epoch: int
    values: dict[str, float]
    whole: bool = False


@dataclass(frozen=True)
class RunEnded:
    """A rank left a run: ``outcome`` is ``"done"``, ``"failed"`` or ``"interrupted"``.

    ``measuring`` is the time this rank spent measuring, in seconds, over the whole run,
    so that the cost of the clock is in the same record as what it measured. ``input`` is
    what its steps waited for in the input, see `waits.Sums`; empty without a reader.
    ``notes`` are what was found out on the way, and go to the record's ``meta``. ``named`` and
    ``cores`` are as in `StepsDone`.
    """

    run: str
    rank: int
    outcome: str
    measuring: float
    input: dict[str, float] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)
    named: dict[str, float] = field(default_factory=dict)
    cores: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class StackLocation:
    """The current location of a rank, from its own stack.

    ``line`` is the line of the cell (from 1) and ``code`` its text; ``exchange`` names
    the exchange between ranks it is in, if it is in one that it asked for by itself. One
    inside a compiled step cannot be seen from outside: ``compiled`` says that TensorFlow
    is running something. ``inside`` is the innermost function, and ``steps`` what
    `steps_taken` said. ``path`` are the cell's own lines that led here, outermost first,
    each as ``(line, code)``, and ``cell`` is the same on all ranks for the same cell.
    ``exchanges`` counts those that the rank has begun by itself: a rank that goes on counts on.
    """

    rank: int
    line: int
    code: str
    inside: str
    exchange: str | None = None
    compiled: bool = False
    steps: int | None = None
    path: tuple[tuple[int, str], ...] = ()
    cell: str = ""
    exchanges: int = 0


@dataclass(frozen=True)
class CellEnding:
    """The rank's cell has failed or was stopped, and its error is being formatted."""

    rank: int


@dataclass(frozen=True)
class RankJoined:
    """A rank that was started while others trained trains with them, from a step on."""

    rank: int
    step: int


@dataclass(frozen=True)
class TensorsMissing:
    """Tensors that some ranks of the ring have sent for seconds, and others have not.

    ``missing`` has for a rank the tensors that it has not sent, in words. Every other of
    ``ring`` has sent them, and waits.
    """

    ring: tuple[int, ...]
    missing: dict[int, tuple[str, ...]]


@dataclass(frozen=True)
class Gpu:
    """A GPU that a rank uses: how busy in percent, and its memory in bytes; None is unknown."""

    index: int
    name: str
    busy_pct: float | None
    used_bytes: float | None
    total_bytes: float | None


@dataclass(frozen=True)
class ResourceUsage:
    """How a rank's process is doing: CPU in percent of one core, memory in bytes.

    ``no_gpu`` says why ``gpus`` is empty, if it is. ``queue`` is how many batches were
    ready when the last one was asked for, None without readers. ``network_bytes_per_s`` is what
    the rank's host sent and received since the rank looked last.
    """

    rank: int
    cpu_pct: float | None
    memory_bytes: float | None
    gpus: list[Gpu]
    no_gpu: str = ""
    queue: int | None = None
    network_bytes_per_s: float | None = None
    pid: int | None = None


@dataclass(frozen=True)
class Track:
    """Spans of one thread, or of one tensor on its way: span `i` is ``names[which[i]]``.

    ``start[n]`` are seconds since the epoch on the rank's clock, ``length[n]`` seconds;
    ``source`` is ``"TensorFlow"`` or ``"Horovod"``.
    """

    source: str
    name: str
    names: tuple[str, ...]
    which: np.ndarray
    start: np.ndarray
    length: np.ndarray


@dataclass(frozen=True)
class ProfileTaken:
    """What a rank recorded in depth of steps ``first`` to ``last``.

    ``notes`` say what could not be recorded, or was left out, and why.
    """

    run: str
    rank: int
    first: int
    last: int
    tracks: tuple[Track, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class TrainedAlone:
    """A Keras `fit` has ended on a rank, and no gradient was exchanged in it."""

    rank: int
    model: str


@dataclass(frozen=True)
class VariablesTrained:
    """A custom loop on a rank has changed variables in the cell that ends now.

    ``sums`` are of some of a variable's elements, by its name: their sum, and that of their
    magnitudes. Ranks that train one model have equal ones.
    """

    rank: int
    sums: dict[str, tuple[float, float]]


@dataclass(frozen=True)
class VariableDigested:
    """What a rank has of a variable, after ``step`` steps: see `variable_digest.digest`.

    ``number`` is the request's. ``step`` is None where none was waited for, -1 at a run's end.
    ``error`` says why there is nothing, if there is not.
    """

    rank: int
    number: int
    name: str
    step: int | None
    parts: list[dict[str, Any]]
    error: str = ""


RunMessage = RunBegan | StepsDone | TrainingProgress | ProfileTaken | RunEnded
Message = (
    RunMessage
    | TrainingPrepared
    | StackLocation
    | TensorsMissing
    | ResourceUsage
    | CellEnding
    | RankJoined
    | TrainedAlone
    | VariablesTrained
    | VariableDigested
)
Sink = Callable[[Sequence[Message]], None]

_sink: Sink | None = None


def _report(line: str) -> None:
    say(line, error=True)


books: Final = Bookkeeping(_report)
"""The guard of this process's measuring; on a rank, what it reports is output of the cell."""


def set_sink(sink: Sink | None) -> Sink | None:
    """Give this process's messages to `sink` from now on; return the sink before it.

    It is called with all messages of one `emit`: sending several in one costs as much as one.
    """
    global _sink
    before, _sink = _sink, sink
    return before


def emit(*messages: Message) -> None:
    """Give `messages` to the process's sink, in order; without one they are dropped.

    A sink that fails is reported, and the training goes on.
    """
    if _sink is not None:
        with books.doing(TELEMETRY):
            _sink(messages)


_cell_end_hooks: list[Callable[[str], None]] = []


def on_cell_end(hook: Callable[[str], None]) -> None:
    """Have `hook(outcome)` called whenever a cell ends on this rank.

    A step clock uses it to end the runs that a failing cell left open; ``outcome`` is
    one of `RunEnded`'s.
    """
    _cell_end_hooks.append(hook)


def cell_ended(outcome: str) -> None:
    """Call the hooks of the end of a cell."""
    set_queue_depth(None)
    for hook in _cell_end_hooks:
        with books.doing(TELEMETRY):
            hook(outcome)
    books.begin_cell()


_step_counter: Callable[[], int | None] | None = None


def set_step_counter(counter: Callable[[], int | None]) -> None:
    """Set the counter of the steps of the run that is open on this rank."""
    global _step_counter
    _step_counter = counter


def steps_taken() -> int | None:
    """Return how many steps the open run has taken, or None without one; any thread may ask."""
    return None if _step_counter is None else _step_counter()


_queue: int | None = None


def set_queue_depth(depth: int | None) -> None:
    """Note how many batches were ready when the readers were asked for one."""
    global _queue
    _queue = depth


def queue_depth() -> int | None:
    """Return what was noted last in this cell; any thread may ask."""
    return _queue


StepListener = Callable[[str, int | None], bool]

_step_listeners: list[StepListener] = []


def add_step_listener(listener: StepListener) -> None:
    """Have `listener(run, step)` called at the end of each step of this rank.

    At the end of a run ``step`` is None. What `listener` returns says whether it took time
    that belongs to no step. While there is one every step is measured.
    """
    if listener not in _step_listeners:
        _step_listeners.append(listener)


def remove_step_listener(listener: StepListener) -> None:
    """Call `listener` no more; it may be called in the step that ends."""
    if listener in _step_listeners:
        _step_listeners.remove(listener)


def has_step_listener() -> bool:
    """Return whether somebody watches each step."""
    return bool(_step_listeners)


def step_ended(run: str, step: int | None) -> bool:
    """Call the listeners; return whether one took time that belongs to no step."""
    took = False
    for listener in tuple(_step_listeners):
        with books.doing(TRACE):
            took |= listener(run, step)
    return took
