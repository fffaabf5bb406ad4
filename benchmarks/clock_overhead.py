"""What does measuring cost? The step clock on and off, alternated at random per step.

Blocks of steps with and without the clock differ by more than the clock costs, because
the machine drifts. So both kinds of step run in one process group on one model, and a
coin decides before each step which it is; all ranks toss the same coin. A control tosses
it between two measured steps that are the same: what it shows is noise.

Two compilations of the very same step differ by tens of microseconds, for no reason that
lies in them; so the step is compiled four times, and which one runs is tossed for as well.
The plain step is the function compiled without a reading of the clock, as a run has it for
the steps that it does not measure; the run measures as many of its steps as it would;
`against_keras_pct` compares the measured step with the function that Keras makes, which
does more around it.

Each step is timed by a stopwatch around the call, on both ranks. The figure is the
difference of the two kinds' means in a block of steps, its trimmed mean over all blocks,
relative to a plain step; its interval is a bootstrap over blocks. Sending rows runs
in parallel and slows down this step and the next ones, of either kind: these steps are left
out of the comparison, and what they take longer than the others is added, per step of the
run, as `sending_pct`.

    python benchmarks/clock_overhead.py
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import _harness as harness
import numpy as np

from eai_notebook.session import Session

RANKS = 2
BLOCK = 100
"""Steps in a block."""

TRIM = 0.1
"""Share of the blocks left out at each end."""

AFTER = 3
"""So many steps after a batch of rows are looked at for what sending it cost."""

STALL_S = 0.005
"""A step that is this much longer than the median was stalled by something else."""

TRAINING = '''
import time
import keras, numpy as np, tensorflow as tf
import eai_notebook as eai
from eai_notebook.train.recording import step_clock, graph_timestamps
from eai_notebook.train.measured_step import MeasuredStep
from tensorflow.python.data.experimental.ops.testing import sleep

WIDTH = 64
INSTANCES = 4

class Work(keras.layers.Layer):
    """Takes a known time, all of it asleep, so that the ranks need no core each.

    As in any model, nothing of it is Python, which would wait for threads that run Python.
    """

    def __init__(self, seconds):
        super().__init__()
        ticks = tf.data.Dataset.from_tensors(0.0).repeat().apply(sleep(int(1e6 * seconds)))
        options = tf.data.Options()
        options.experimental_optimization.inject_prefetch = False  # it sleeps when asked
        self.ticks = iter(ticks.with_options(options))

    def call(self, x):
        with tf.control_dependencies([x]):
            tick = self.ticks.get_next()
        return x + tick

def prepare(layers, seconds):
    """Return Keras's own step and two measured ones, all compiled, and their input."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((WIDTH,)), Work(seconds),
        *[keras.layers.Dense(WIDTH, "relu") for _ in range(layers)], keras.layers.Dense(1)])
    model.compile(eai.DistributedOptimizer("adam"), "mse")
    model.optimizer.build(model.trainable_variables)
    x, y = np.ones((32, WIDTH), "float32"), np.ones((32, 1), "float32")
    feed = iter(tf.data.Dataset.from_tensors((x, y)).repeat())
    model.make_train_function()
    plain = model.train_function
    def compiled():
        step = MeasuredStep(model, plain)
        step._compiled_unmarked(None, feed)(feed)
        step(feed)
        return step

    with graph_timestamps.left_out():
        plain(feed)
    measured = [compiled() for _ in range(INSTANCES)]
    bare = [lambda feed, run=step._unmarked: run(feed)[0] for step in measured]
    return {"keras": [plain], "off": bare, "on": measured, "on again": measured}, feed

def toss(steps, feed, kinds, order):
    """Time one step of the tossed kind after another; return seconds."""
    rng = np.random.default_rng(len(order))  # the same on all ranks
    chosen = [steps[kinds[side]][rng.integers(len(steps[kinds[side]]))] for side in order]
    took = np.empty(len(order))
    for index, step in enumerate(chosen):
        step_clock.current().resume()  # plain steps come in between, which the clock does not see
        begin = time.perf_counter()
        step(feed)
        took[index] = time.perf_counter() - begin
    return took

def measure(kinds, order):
    """Return the time of each step in an open run, and after which of them rows were sent."""
    running = step_clock.begin_run("overhead", {})
    toss(steps, feed, kinds, order[:100])
    batches, counted = [], running.taken + len(running._ends)
    flush = running.flush
    def noted():
        flush()
        batches.append(running.taken)
    running.flush = noted
    took = toss(steps, feed, kinds, order)
    step_clock.end_run("done")
    # Only measured steps are counted, so the n-th counted is the n-th that was one. Rows are sent
    # when the step after them begins.
    measured = [index for index, side in enumerate(order) if kinds[side].startswith("on")]
    sent = [measured[count - counted] for count in batches if 0 < count - counted < len(measured)]
    return took, sent
'''


def touched(count: int, sent: list[int]) -> np.ndarray:
    """Return which of `count` steps a batch of rows was sent in, or shortly before."""
    found = np.zeros(count, bool)
    for index in sent:
        found[index : index + 1 + AFTER] = True
    return found


def differences(took: np.ndarray, order: np.ndarray, near: np.ndarray) -> np.ndarray:
    """Return each block's mean of side 1 less its mean of side 0, in seconds.

    Steps that a sending touched are left out: all of them follow or are measured steps.
    """
    times = np.where(near, np.nan, took).reshape(-1, BLOCK)
    sides = order.reshape(-1, BLOCK)
    by_side = [np.nanmean(np.where(sides == side, times, np.nan), axis=1) for side in (0, 1)]
    result: np.ndarray = by_side[1] - by_side[0]
    return result


def sending(took: np.ndarray, near: np.ndarray) -> np.ndarray:
    """Return what the steps that a sending touched took longer, a step of the block, in s."""
    extra = np.where(near, took - took[~near].mean(), 0.0).reshape(-1, BLOCK)
    found: np.ndarray = extra.sum(axis=1) / BLOCK
    return found


def trimmed_mean(values: np.ndarray) -> float:
    """Return the mean without the `TRIM` smallest and largest."""
    cut = int(len(values) * TRIM)
    return float(np.sort(values)[cut : len(values) - cut].mean())


def coin(count: int, seed: int) -> np.ndarray:
    """Return random sides, as many of each in every block."""
    rng = np.random.default_rng(seed)
    fair = np.arange(BLOCK) % 2
    return np.concatenate([rng.permutation(fair) for _ in range(count // BLOCK)])


def compare(session: Session, kinds: tuple[str, str], count: int, seed: int) -> dict[str, Any]:
    """Toss between two kinds of step; return their difference and its interval in percent."""
    order = coin(count, seed)
    count = len(order)
    session.push(kinds=kinds, order=order)
    session.run("took, sent = measure(kinds, order)")
    by_rank = [np.asarray(session.pull("took", rank)) for rank in range(RANKS)]
    calm = [np.minimum(took, np.median(took) + STALL_S) for took in by_rank]
    step = float(np.mean([took[order == 0].mean() for took in calm]))
    near = [touched(count, session.pull("sent", rank)) for rank in range(RANKS)]
    marks = [differences(took, order, by) for took, by in zip(calm, near, strict=True)]
    sent = [sending(took, by) for took, by in zip(calm, near, strict=True)]
    both = np.stack([np.mean(marks, axis=0), np.mean(sent, axis=0)], axis=1) / step

    def total(blocks: np.ndarray) -> float:
        return trimmed_mean(blocks[:, 0]) + float(blocks[:, 1].mean())

    low, high = harness.bootstrap_interval(both, total)
    return {
        "marks_pct": 100 * trimmed_mean(both[:, 0]),
        "sending_pct": 100 * float(both[:, 1].mean()),
        "ci95_pct": (100 * low, 100 * high),
        "step_ms": 1e3 * step,
        "steps": len(order),
    }


def main() -> None:
    """Compare measured with plain steps, and measured with measured ones."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--work-ms", type=float, default=7.0)
    arguments = parser.parse_args()
    with Session(RANKS) as session:
        session.run(TRAINING)
        session.push(layers=arguments.layers, seconds=arguments.work_ms / 1e3)
        session.run("steps, feed = prepare(layers, seconds)")
        half = arguments.steps // 2
        found: dict[str, list[dict[str, Any]]] = {"clock": [], "control": [], "keras": []}
        for round_ in range(2):  # one, the other, one, the other: drift hits both alike
            harness.say(f"round {round_ + 1}: on against off, then on against on")
            found["clock"].append(compare(session, ("off", "on"), half, 2 * round_))
            found["control"].append(compare(session, ("on", "on again"), half, 2 * round_ + 1))
        found["keras"].append(compare(session, ("keras", "on"), half // 2, 9))

    def average(kind: str, what: str) -> float:
        return float(np.mean([each[what] for each in found[kind]]))

    summary = {
        "overhead_pct": average("clock", "marks_pct") + average("clock", "sending_pct"),
        "ci95_high_pct": float(np.mean([each["ci95_pct"][1] for each in found["clock"]])),
        "control_pct": average("control", "marks_pct"),
        "sending_pct": average("clock", "sending_pct"),
        "against_keras_pct": average("keras", "marks_pct"),
        "step_ms": average("clock", "step_ms"),
    }
    harness.finish(
        "clock_overhead", summary, {"ranks": RANKS, "gradients": 2 * arguments.layers + 2, **found}
    )
    good = summary["overhead_pct"] <= 0.2 and summary["ci95_high_pct"] <= 0.5
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
