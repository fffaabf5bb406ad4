"""Timestamps taken inside the training graph.

Python cannot see when a gradient is ready: the whole step is one call. So the graph
itself reads the clock, each reading held back until the tensors it is about exist, and
what uses these tensors is held back until the clock was read: TensorFlow's threads may
run a reading that nobody waits for much later. The readings of a step are written to one
small variable, which the step clock reads with the step's result; that costs one tensor
a step, whatever is stamped.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import time
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from eai_notebook.collective import xla_context
from eai_notebook.train.untraced_variable import untraced_variable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import tensorflow as tf

GROUPS: Final = 4
"""Gradients are stamped, and exchanged, in at most this many groups of neighbours.

A group starts when its last gradient is ready, so fewer groups overlap less with the
backward pass. More are costly: every group is two readings a step, and what comes later
by some microseconds misses the backend's next look for work more often.
"""

BYTES: Final = 0
EMBEDDING: Final = 1
REDONE: Final = 2
APPLIED: Final = 3
READY: Final = slice(4, 4 + GROUPS)
REDUCED: Final = slice(4 + GROUPS, 4 + 2 * GROUPS)
WIDTH: Final = 4 + 2 * GROUPS
"""The row of marks: gradient bytes this rank sent, those of embeddings among them, exchanges
made again because fp16 had overflowed, when the update was applied, and for each group when its gradients were ready and reduced. Times are seconds since the epoch; what
did not happen is NaN, or older than the step."""

_TRIALS: Final = 200

_row: tf.Variable | None = None
_taken = True


@contextlib.contextmanager
def left_out() -> Iterator[None]:
    """Leave the marks out of what is traced meanwhile: the same step, not measured."""
    global _taken
    before, _taken = _taken, False
    try:
        yield
    finally:
        _taken = before


def are_taken() -> bool:
    """Return whether what is traced now gets marks.

    XLA, which compiles a step whole, takes none; nor does TensorFlow read a clock where the user
    has asked for the same bits in each run.
    """
    return _taken and not xla_context.is_compiled() and not is_deterministic()


def is_deterministic() -> bool:
    """Return whether ``tf.config.experimental.enable_op_determinism`` is in force.

    Examples:
        >>> is_deterministic()
        False
    """
    from tensorflow.python.framework import config  # there is no public way

    return bool(config.is_op_determinism_enabled())


def row() -> tf.Variable:
    """Return the process's row of marks: float64, shape [WIDTH]."""
    global _row
    if _row is None:
        import tensorflow as tf

        # A training step that is being traced may be the first to ask.
        with tf.device("CPU:0"):
            _row = untraced_variable(np.full(WIDTH, np.nan), trainable=False, name="eai_marks")
    return _row


def read() -> tf.Tensor:
    """Return what `row` holds; all NaN where marks are left out."""
    import tensorflow as tf

    if not are_taken():
        return tf.fill([WIDTH], tf.constant(np.nan, tf.float64))
    return row().read_value()


def stamp(after: Iterable[Any] = ()) -> tf.Tensor:
    """Return the time at which all of `after` existed: float64 seconds since the epoch.

    On a GPU an operation counts as done once it has been queued, so there one element
    of each tensor is fetched first, which waits for its value. NaN where marks are left out.
    """
    import tensorflow as tf

    if not are_taken():
        with tf.device("CPU:0"):
            return tf.constant(np.nan, tf.float64)
    held_back = list(waits(after))
    with tf.device("CPU:0"):
        if _has_gpu():
            held_back = [_fetched(wait) for wait in held_back]
        with tf.control_dependencies(held_back):
            reading = tf.timestamp()
    if not tf.executing_eagerly():
        exempt_from_auto_control_dependencies(reading)
    return reading


def exempt_from_auto_control_dependencies(reading: tf.Tensor) -> None:
    """Keep TensorFlow from ordering clock readings as they were written down.

    It chains all operations with effects that use no variable. Then no gradient would be
    ready, in our eyes, before the one above it had been exchanged.
    """
    manager = reading.graph.experimental_acd_manager
    if manager is not None:
        manager.run_independently(reading.op)


def held(values: Iterable[Any], until: tf.Tensor) -> list[Any]:
    """Return `values` unchanged, but not before `until` was read; None stays None.

    They go through one operation together, so they come when the last of them is there.
    """
    import tensorflow as tf

    structure = list(values)
    if not are_taken():
        return structure
    tensors = tf.nest.flatten(structure, expand_composites=True)
    present = [tensor for tensor in tensors if tensor is not None]
    if not present:
        return structure
    with tf.control_dependencies([until]):
        passed = iter(tf.identity_n(present))
    back = [None if tensor is None else next(passed) for tensor in tensors]
    packed: list[Any] = tf.nest.pack_sequence_as(structure, back, expand_composites=True)
    return packed


def held_together(values: Sequence[Any]) -> list[Any]:
    """Return `values` unchanged, but none before all are there; None stays None.

    Whether marks are taken or not, so that steps with and without them run alike. It is an
    operation without inputs that holds them back: an `IdentityN` without a reason to be one,
    Grappler takes apart.
    """
    import tensorflow as tf

    structure = list(values)
    tensors = tf.nest.flatten(structure, expand_composites=True)
    present = [tensor for tensor in tensors if tensor is not None]
    if not present or tf.executing_eagerly():
        return structure
    with tf.control_dependencies(present):
        all_there = tf.no_op()
    with tf.control_dependencies([all_there]):
        back = [None if tensor is None else tf.identity(tensor) for tensor in tensors]
    packed: list[Any] = tf.nest.pack_sequence_as(structure, back, expand_composites=True)
    return packed


def runs_one_at_a_time() -> bool:
    """Return whether TensorFlow runs the operations of a graph on one thread, one by one.

    It does where ranks have a core each. Then an update that begins while other gradients
    have yet to be handed to the backend, or stamped as reduced, holds both up: what it takes
    would be booked to `transfer`, on all ranks, and be paid by all of them.
    """
    import tensorflow as tf

    threads = tf.config.threading.get_inter_op_parallelism_threads()
    if not threads:
        with contextlib.suppress(ValueError):
            threads = int(os.environ.get("TF_NUM_INTEROP_THREADS") or 0)
    return (threads or os.cpu_count() or 1) == 1


def groups(count: int) -> list[range]:
    """Split `count` gradients into at most `GROUPS` runs of neighbours.

    Examples:
        >>> groups(3)
        [range(0, 1), range(1, 2), range(2, 3)]
        >>> len(groups(1000)), groups(1000)[-1]
        (4, range(750, 1000))
    """
    pieces = min(count, GROUPS)
    edges = [count * piece // pieces for piece in range(pieces + 1)] if pieces else [0]
    return [range(first, last) for first, last in itertools.pairwise(edges)]


def write(
    counted: Sequence[Any], applied: tf.Tensor, ready: Sequence[Any], reduced: Sequence[Any]
) -> None:
    """Write a step's marks to `row`, absent groups as NaN.

    `counted` are the first marks, up to `APPLIED`: floats or float64 scalars.
    """
    import tensorflow as tf

    if not are_taken():
        return
    with tf.device("CPU:0"):
        missing = tf.constant(np.nan, tf.float64)
        padded = [
            *ready,
            *[missing] * (GROUPS - len(ready)),
            *reduced,
            *[missing] * (GROUPS - len(reduced)),
        ]
        row().assign(tf.stack([*counted, applied, *padded]))


@functools.cache
def cost_s() -> float:
    """Return what the marks of a step cost at most, in seconds; measured once a process.

    A graph that does nothing else but take a full row of them is timed against one that
    does nothing at all. In a training step they partly run beside other work.
    """
    import tensorflow as tf

    def marked() -> tf.Tensor:
        values = [tf.constant(0.0)]
        ready: list[tf.Tensor] = []
        reduced: list[tf.Tensor] = []
        for times in [ready, reduced] * GROUPS:
            times.append(stamp(values))
            values = held(values, times[-1])
        write([0.0] * APPLIED, stamp(values), ready, reduced)
        return row().read_value()

    with tf.init_scope():
        return max(0.0, _seconds(marked) - _seconds(lambda: tf.constant(0.0)))


def _seconds(body: Callable[[], tf.Tensor]) -> float:
    """Return the median time of a call of `body` as a graph."""
    import tensorflow as tf

    run = tf.function(body, autograph=False).get_concrete_function()
    times = []
    for _ in range(_TRIALS):
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    return float(np.median(times))


def update_operations(first: int) -> list[tf.Operation]:
    """Return the operations with effects that the current graph got after its `first`."""
    import tensorflow as tf

    made = tf.compat.v1.get_default_graph().get_operations()[first:]
    return [op for op in made if op.op_def.is_stateful and op.type != "ReadVariableOp"]


def operation_count() -> int:
    """Return how many operations the graph being traced has; 0 when executing eagerly."""
    import tensorflow as tf

    if tf.executing_eagerly():
        return 0
    return len(tf.compat.v1.get_default_graph().get_operations())


def waits(after: Iterable[Any]) -> Iterable[Any]:
    """Yield the tensors and operations in `after`, a sparse gradient as its parts."""
    import tensorflow as tf

    for item in after:
        if isinstance(item, tf.IndexedSlices):
            yield item.values
            yield item.indices
        elif item is not None:
            yield item


def _has_gpu() -> bool:
    import tensorflow as tf

    return bool(tf.config.list_physical_devices("GPU"))


def _fetched(item: Any) -> Any:
    """Return one element of tensor `item` on the host; operations as they are."""
    import tensorflow as tf

    if not tf.is_tensor(item) or item.shape.num_elements() == 0:
        return item
    return tf.identity(tf.reshape(item, [-1])[:1])
