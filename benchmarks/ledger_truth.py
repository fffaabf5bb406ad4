"""Does the ledger find delays that were put in on purpose, and name the right part?

Two ranks train a small model whose steps take known time, because they mostly sleep. In
each run one delay is added: every batch comes later on both ranks, one rank computes
longer, a callback dawdles; or none is. Runs are in random order in one group. What was
really slept is timed where it is slept, so a late wake-up is no error of the ledger.

- `sum_error_pct`: the parts' sum against a stopwatch of its own in a callback; the worst run.
- `median_abs_error_ms`, `recovered_pct`: the part's median less that of the undisturbed
  runs, against what was slept; recovered is within 5 % or 0.5 ms.
- `right_part_pct`: the verdict names the delayed part, for a late rank also the rank.
- `false_alarms_pct`: undisturbed runs in which it names any.

    python benchmarks/ledger_truth.py
"""

from __future__ import annotations

import argparse
import random
import sys
from dataclasses import dataclass
from typing import Any

import _harness as harness
import numpy as np

from eai_notebook.ledger.report import merge_record
from eai_notebook.ledger.step_schema import PARTS
from eai_notebook.ledger.verdict import verdict
from eai_notebook.session import Session

RANKS = 2

TRAINING = '''
import time
import keras, numpy as np, tensorflow as tf
import eai_notebook as eai

BASE_S = 0.008
SLEPT = {"input": [], "compute": [], "callback": []}
DELAY = dict.fromkeys(SLEPT, 0.0)

def dawdle(kind, base=0.0):
    begin = time.perf_counter()
    if kind == "callback":
        # Callbacks compute. And where a process slept, what comes next is slower too,
        # which the ledger counts but this stopwatch would not.
        while time.perf_counter() < begin + DELAY[kind]:
            pass
    elif base + DELAY[kind]:
        time.sleep(base + DELAY[kind])
    SLEPT[kind].append(time.perf_counter() - begin)

class Work(keras.layers.Layer):
    """Computes for a known time."""

    def call(self, x):
        def work(values):
            dawdle("compute", BASE_S)
            return values
        return tf.ensure_shape(tf.numpy_function(work, [x], x.dtype), x.shape)

class Dawdler(keras.callbacks.Callback):
    """Keeps a stopwatch of its own, and takes its time when told to."""

    def on_train_batch_end(self, batch, logs=None):
        WATCH.append(time.perf_counter())
        dawdle("callback")

def batches(steps):
    x, y = np.ones((64, 16), "float32"), np.ones((64, 1), "float32")
    def load(_):
        dawdle("input")
        return x, y
    def shaped(i):
        x, y = tf.numpy_function(load, [i], ["float32", "float32"])
        return tf.ensure_shape(x, (64, 16)), tf.ensure_shape(y, (64, 1))
    # Read ahead, a slow input would be hidden behind the computation, as it should.
    options = tf.data.Options()
    options.experimental_optimization.inject_prefetch = False
    return tf.data.Dataset.range(steps).map(shaped).with_options(options)

model = keras.Sequential([keras.Input((16,)), Work(), keras.layers.Dense(16), keras.layers.Dense(1)])
model.compile("sgd", "mse")

def train(steps, delays):
    """Run some steps with `delays` by kind and rank, in s; return what was slept and the watch."""
    global WATCH
    WATCH = []
    for kind in DELAY:
        DELAY[kind] = delays.get((kind, eai.rank()), 0.0)
        SLEPT[kind].clear()
    eai.fit(model, batches(steps), callbacks=[Dawdler()], verbose=0)
    return {kind: float(np.median(slept[1:])) for kind, slept in SLEPT.items()}, WATCH
'''


@dataclass(frozen=True)
class Scenario:
    """One kind of run: what is delayed, where, and what the verdict should be."""

    name: str
    kind: str
    seconds: float
    ranks: tuple[int, ...]
    part: str
    seen_by: tuple[int, ...]

    @property
    def delays(self) -> dict[tuple[str, int], float]:
        """The delays by kind and rank."""
        return {(self.kind, rank): self.seconds for rank in self.ranks}


BOTH = (0, 1)
CALM = Scenario("none", "input", 0.0, (), "compute", BOTH)
SCENARIOS = [
    CALM,
    *(Scenario(f"input {ms} ms", "input", ms / 1e3, BOTH, "input", BOTH) for ms in (2, 5, 10, 20)),
    *(
        Scenario(f"rank {late} late 10 ms", "compute", 0.010, (late,), "wait_peer", (1 - late,))
        for late in BOTH
    ),
    Scenario("callback 10 ms", "callback", 0.010, BOTH, "other", BOTH),
]


@dataclass(frozen=True)
class Run:
    """What one run measured, and what is true of it."""

    scenario: Scenario
    medians: np.ndarray  # [rank, part], seconds
    slept: list[dict[str, float]]  # by rank, seconds a step
    verdict: str
    late_rank: int | None
    sum_error: float
    wall: float

    @property
    def is_right(self) -> bool:
        """Whether the verdict names the delayed part, and of a late rank the rank."""
        if self.verdict != self.scenario.part:
            return False
        return self.verdict != "wait_peer" or self.late_rank == self.scenario.ranks[0]


def one_run(session: Session, scenario: Scenario, steps: int) -> Run:
    """Train once under `scenario` and read the record back."""
    before = len(session.runs)
    session.push(steps=steps, delays=scenario.delays)
    session.run("slept, watch = train(steps, delays)")
    (record,) = session.runs[before:]
    ledger = merge_record(record)
    found = verdict(ledger)
    measured = ledger.measured()
    sums = np.nansum(ledger.parts, axis=2)
    errors = []
    for rank in range(RANKS):
        watch = session.pull("watch", rank)
        # The stopwatch ticks once a step, so from the first tick to the last.
        errors.append(abs(sums[rank, 1:].sum() / (watch[-1] - watch[0]) - 1))
    return Run(
        scenario=scenario,
        medians=np.nanmedian(measured.parts, axis=1),
        slept=[session.pull("slept", rank) for rank in range(RANKS)],
        verdict=found.kind,
        late_rank=found.rank,
        sum_error=max(errors),
        wall=float(np.nanmedian(measured.wall)),
    )


def errors_of(run: Run, calm: list[Run]) -> list[tuple[float, float]]:
    """Return (error, truth) in seconds for each rank that should see the delay."""
    scenario = run.scenario
    place = PARTS.index(scenario.part)
    usual = np.median([other.medians for other in calm], axis=0)
    kind = scenario.kind
    slept = {rank: np.median([other.slept[rank][kind] for other in calm]) for rank in BOTH}
    found = []
    for rank in scenario.seen_by:
        source = rank if rank in scenario.ranks else scenario.ranks[0]
        truth = run.slept[source][kind] - slept[source]
        seen = run.medians[rank, place] - usual[rank, place]
        found.append((float(seen - truth), float(truth)))
    return found


def summarize(runs: list[Run]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the figures over all runs, and by scenario."""
    calm = [run for run in runs if run.scenario is CALM]
    delayed = [run for run in runs if run.scenario is not CALM]
    errors = [(run, *pair) for run in delayed for pair in errors_of(run, calm)]
    recovered = [abs(error) <= max(0.05 * truth, 0.0005) for _, error, truth in errors]
    summary = {
        "sum_error_pct": 100 * max(run.sum_error for run in runs),
        "median_abs_error_ms": 1e3 * float(np.median([abs(error) for _, error, _ in errors])),
        "right_part_pct": 100 * float(np.mean([run.is_right for run in delayed])),
        "false_alarms_pct": 100 * float(np.mean([run.verdict != "compute" for run in calm])),
        "recovered_pct": 100 * float(np.mean(recovered)),
        "runs": len(runs),
    }
    details = {}
    for scenario in SCENARIOS:
        mine = [run for run in runs if run.scenario is scenario]
        details[scenario.name] = {
            "runs": len(mine),
            "wall_ms": 1e3 * float(np.median([run.wall for run in mine])),
            "parts_ms": {
                part: 1e3 * float(np.median([run.medians[:, place].mean() for run in mine]))
                for place, part in enumerate(PARTS)
            },
            "errors_ms": [1e3 * error for run, error, _ in errors if run.scenario is scenario],
            "verdicts": [f"{run.verdict} {run.late_rank}" for run in mine],
        }
    return summary, details


def main() -> None:
    """Run all scenarios in random order and say how well they were recovered."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=8)
    parser.add_argument("--steps", type=int, default=80)
    arguments = parser.parse_args()
    order = SCENARIOS * arguments.repeats
    random.Random(5).shuffle(order)
    with Session(RANKS) as session:
        session.run(TRAINING)
        one_run(session, CALM, 20)  # compiles
        runs = []
        for number, scenario in enumerate(order, 1):
            runs.append(one_run(session, scenario, arguments.steps))
            last = runs[-1]
            harness.say(f"{number}/{len(order)} {scenario.name}: {last.verdict} {last.late_rank}")
    summary, details = summarize(runs)
    harness.finish("ledger_truth", summary, details)
    good = (
        summary["sum_error_pct"] <= 0.5
        and summary["recovered_pct"] >= 95
        and summary["right_part_pct"] >= 99
    )
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
