"""``wire="auto"``: try wire formats in turns on real steps and keep the fastest.

What counts is the whole step, not the exchange: a narrower format also costs computing, and
saves nothing where communication hides behind it. So the time from one step's gradients to
the next one's is taken, on every rank, for blocks of steps in each format by turns. Then the
ranks' medians are averaged, which all of them know and act on alike. A narrower format stays
only if it made the step quicker by more than `MARGIN`.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from eai_notebook import collective
from eai_notebook.bookkeeping import say
from eai_notebook.compression.wire_registry import auto_formats
from eai_notebook.train.recording import graph_timestamps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import tensorflow as tf

    from eai_notebook.train.exchange.wire_state import Wire

CANDIDATES: Final = auto_formats()
WARM: Final = 4
"""Steps before the trial: the first ones compile and open connections."""
BLOCK: Final = 5
"""Steps in a row in one format; the first of them may still pay for the change."""
ROUNDS: Final = 4
STEPS: Final = WARM + ROUNDS * len(CANDIDATES) * BLOCK
"""Steps until the choice is made."""
MARGIN: Final = 0.03
_SAMPLES: Final = ROUNDS * (BLOCK - 1)


def now(wire: Wire) -> tf.Tensor:
    """Return which of `CANDIDATES` this step travels in: an int32 scalar, alike on all ranks."""
    import tensorflow as tf

    step, kept = _step(wire).read_value(), _kept(wire).read_value()
    return tf.where(kept >= 0, kept, _tried(step))


def switch(choice: tf.Tensor, branch: Callable[[str], Any]) -> Any:
    """Return what ``branch(format)`` returns for the format of this step."""
    import tensorflow as tf

    return tf.switch_case(choice, [functools.partial(branch, name) for name in CANDIDATES])


def ready_time(gradients: Iterable[Any]) -> tf.Tensor:
    """Return when this step's gradients were there, in seconds, held up by nothing else."""
    import tensorflow as tf

    if graph_timestamps.is_deterministic():  # a clock may not be read: the first format stays
        return tf.constant(0.0, tf.float64)
    with tf.device("CPU:0"), tf.control_dependencies(list(graph_timestamps.waits(gradients))):
        reading = tf.timestamp()
    if not tf.executing_eagerly():
        graph_timestamps.exempt_from_auto_control_dependencies(reading)
    return reading


def note(wire: Wire, at: tf.Tensor) -> None:
    """Take down a step whose gradients were there at the time `at`; the last one decides."""
    import tensorflow as tf

    step, last, table, kept = _step(wire), _last(wire), _table(wire), _kept(wire)

    def take() -> tf.Tensor:
        number = step.read_value()
        taken = tf.cast(at - last.read_value(), tf.float32)
        position = _position(number - 1)
        table.assign(tf.where(position >= 0, _put(table.read_value(), position, taken), table))
        last.assign(at)
        step.assign(number + 1)
        return tf.cond(tf.equal(number, STEPS), lambda: _decide(table.read_value(), kept), skip)

    def skip() -> tf.Tensor:
        return tf.constant(0)

    tf.cond(kept < 0, take, skip)


def best(medians: Sequence[float] | np.ndarray) -> int:
    """Return which of `CANDIDATES` stays, by the median step of each.

    Examples:
        >>> best([1.0, 0.98, 1.2]), best([1.0, 0.9, 0.8])
        (0, 2)
    """
    quickest = int(np.argmin(medians))
    return quickest if medians[quickest] < medians[0] * (1 - MARGIN) else 0


def describe_choice(medians: Sequence[float] | np.ndarray) -> str:
    """Return the choice in one line.

    Examples:
        >>> describe_choice([0.0101, 0.0099, 0.012])
        'wire="auto": fp32 stays (step: fp32 10.1 ms, fp16 9.9 ms, int8 12.0 ms)'
    """
    steps = ", ".join(f"{n} {1e3 * m:.1f} ms" for n, m in zip(CANDIDATES, medians, strict=True))
    return f'wire="auto": {CANDIDATES[best(medians)]} stays (step: {steps})'


def _decide(table: tf.Tensor, kept: tf.Variable) -> tf.Tensor:
    """Average the ranks' medians and keep the format they speak for."""
    import tensorflow as tf

    ordered = tf.sort(table, axis=1)
    middle = (ordered[:, (_SAMPLES - 1) // 2] + ordered[:, _SAMPLES // 2]) / 2
    medians = collective.allreduce(middle, "trial.medians")
    chosen = tf.numpy_function(_chosen, [medians], tf.int32)
    kept.assign(tf.reshape(chosen, []))
    return tf.constant(0)


def _chosen(medians: np.ndarray) -> np.ndarray:
    """Choose, once, and say so: from rank 0, and in the run's record."""
    from eai_notebook.train.recording import step_clock

    line = describe_choice(medians)
    steps = {name: round(float(m), 6) for name, m in zip(CANDIDATES, medians, strict=True)}
    step_clock.note(wire=CANDIDATES[best(medians)], wire_trial=line, wire_trial_steps_s=steps)
    if collective.rank() == 0:
        say(line)
    return np.array(best(medians), np.int32)


def _tried(step: tf.Tensor) -> tf.Tensor:
    """Return the format that `step` is to try, counted from 0."""
    import tensorflow as tf

    turn = tf.maximum(step - WARM, 0) // BLOCK
    return tf.where(step < WARM, 0, turn % len(CANDIDATES))


def _position(step: tf.Tensor) -> tf.Tensor:
    """Return where in the flat table the step's time belongs; below 0 where it does not count."""
    import tensorflow as tf

    since = step - WARM
    turn, within = since // BLOCK, since % BLOCK
    position = (turn % len(CANDIDATES)) * _SAMPLES
    position += (turn // len(CANDIDATES)) * (BLOCK - 1) + within - 1
    counts = tf.logical_and(since >= 0, within >= 1)
    return tf.where(tf.logical_and(counts, step < STEPS), position, -1)


def _put(table: tf.Tensor, position: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
    import tensorflow as tf

    flat = tf.reshape(table, [-1])
    put = tf.tensor_scatter_nd_update(flat, [[tf.maximum(position, 0)]], [value])
    return tf.reshape(put, table.shape)


def _step(wire: Wire) -> tf.Variable:
    return wire.variable("trial/step", np.int32(0))


def _kept(wire: Wire) -> tf.Variable:
    return wire.variable("trial/kept", np.int32(-1))


def _last(wire: Wire) -> tf.Variable:
    return wire.variable("trial/last", np.float64(0))


def _table(wire: Wire) -> tf.Variable:
    return wire.variable("trial/times", np.zeros((len(CANDIDATES), _SAMPLES), np.float32))
