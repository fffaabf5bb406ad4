"""Does the ledger find delays that were put in on purpose, and name the right part and rank?

Ranks train a small model whose steps take known time, because they mostly sleep. In each run one
delay is added, or none: of a kind, on one rank or on all, of a size in percent of a step. Runs are
in random order in one group. What was really slept is timed where it is slept, so a late wake-up is
no error of the ledger. The verdict is asked blindly: it sees the record and nothing else.

Kinds: input, compute, update (the optimizer's, of one variable), other (between the steps), callback
(a named one), stall (in 5 % of the steps, twenty times as long), core (busy loops of other
processes on the ranks' cores), sparse (a large sparse exchange), and, with ``--links``, link (the
link between two hosts, which are network namespaces, becomes slow). Calm runs are among them all.

- `injections`: runs with a delay. One below the 15 % that a verdict names is judged by `compare`
  with the nearest calm run: does it name the part as what became longer?
- `right_part_pct`, `right_rank_pct`: of those about which something was said. For a delay on one
  rank the part is the cause of the waiting; `right_rank_pct` is over these, and over those on all
  ranks, where no rank may be named.
- `false_alarms_pct`: calm runs in which a loss is named; `cannot_tell_pct`: no verdict, or no cause.
- `right_name_pct`: of delays in a callback, those whose verdict names its class and hook.
- `median_abs_error_ms`: the part's mean less that of the calm runs, against what was slept.
- `sum_error_pct`: the parts of a run's measured steps, added up, against a stopwatch that knows
  nothing of the ledger: the time from the end of one batch to that of the next. The worst run.
- `step_error_pct`: the same of single steps, the 99th percentile over all runs.
- `clocks_right_pct`: the same verdicts after all stamps of a rank were moved by 50 ms.
- `loaded_pct`: calm runs during which, by the system's own count, other processes had the ranks'
  cores. It should be 0: in these an alarm about cores is none that is false.

    python benchmarks/ledger_truth.py                           # 2 ranks, 300 injections
    python benchmarks/ledger_truth.py --ranks 4 --injections 120
    python benchmarks/ledger_truth.py --links 20                # two hosts; needs root
    python benchmarks/ledger_truth.py --quick                   # one of each kind: does it work?
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import multiprocessing
import os
import random
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import _harness as harness
import numpy as np

from eai_notebook.ledger.arrays import mean
from eai_notebook.ledger.context import Context
from eai_notebook.ledger.core_loss import core_loss
from eai_notebook.ledger.facts import Facts
from eai_notebook.ledger.merge import Ledger, mean_parts, merge
from eai_notebook.ledger.parts import PARTS
from eai_notebook.ledger.run_comparison import compare
from eai_notebook.ledger.verdict import Verdict, verdict
from eai_notebook.ledger.waiting import Waiting
from eai_notebook.session import Session

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hosts.cluster import Hosts

TRAINING = '''
import time
import keras, numpy as np, tensorflow as tf
import eai_notebook as eai

BASE_S = 0.008
SLEPT = {"input": [], "compute": [], "update": [], "callback": [], "other": [], "stall": []}
DELAY = dict.fromkeys(SLEPT, 0.0)
STEP = 0
ENDS = []
COMPUTES = False  # whether ranks need their cores: what sleeps is not held up by who has them

def dawdle(kind, base=0.0):
    begin = time.perf_counter()
    length = base + DELAY[kind]
    if kind == "stall":
        length = 20 * DELAY[kind] if STEP % 20 == 7 else 0.0
    if COMPUTES and kind == "compute":
        until = time.thread_time() + length  # what has to be computed, however long that takes
        while time.thread_time() < until:
            pass
    elif kind in ("callback", "other"):
        # Callbacks compute. And where a process slept, what comes next is slower too,
        # which the ledger counts but this stopwatch would not.
        while time.perf_counter() < begin + length:
            pass
    elif length:
        time.sleep(length)
    SLEPT[kind].append(time.perf_counter() - begin)

class Dawdling(keras.optimizers.SGD):
    """Takes its time about one variable, the first layer's weights."""

    def update_step(self, gradient, variable, learning_rate):
        if list(variable.shape) == [16, 16]:
            def work(values):
                dawdle("update")
                return values
            given = tf.numpy_function(work, [gradient], gradient.dtype)
            gradient = tf.ensure_shape(given, gradient.shape)
        super().update_step(gradient, variable, learning_rate)

class Work(keras.layers.Layer):
    """Computes for a known time."""

    def call(self, x):
        def work(values):
            dawdle("compute", BASE_S)
            return values
        return tf.ensure_shape(tf.numpy_function(work, [x], x.dtype), x.shape)

class First(keras.layers.Layer):
    """Returns 16 numbers of each sample's first row."""

    def call(self, x):
        return x[:, 0, :16]

class Dawdler(keras.callbacks.Callback):
    """Takes its time after each batch."""

    def on_train_batch_end(self, batch, logs=None):
        global STEP
        STEP = batch + 1
        dawdle("callback")
        dawdle("stall")

class Stopwatch(keras.callbacks.Callback):
    """Knows when each batch has ended, before any other callback; nothing of the ledger."""

    def on_train_batch_end(self, batch, logs=None):
        ENDS.append(time.perf_counter())

class Between(keras.callbacks.Callback):
    """Takes its time before each batch."""

    def on_train_batch_begin(self, batch, logs=None):
        dawdle("other")

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
model.compile(Dawdling(), "mse")

table = keras.layers.Embedding(200_000, 64)
sparse = keras.Sequential([
    # The work is below the table: no gradient goes through it.
    keras.Input((256,), dtype="int32"), Work(), table, First(),
    keras.layers.Dense(16), keras.layers.Dense(1)])
sparse.compile("sgd", "mse")

def rows(steps):
    ids = np.random.default_rng(eai.rank()).integers(0, 200_000, (64, 256)).astype("int32")
    return tf.data.Dataset.from_tensors((ids, np.ones((64, 1), "float32"))).repeat(steps)

def train(steps, delays, kind):
    """Run some steps with `delays` by kind and rank, in s.

    Return the mean that was slept, and how long each step but the first took by the stopwatch.
    """
    global COMPUTES
    COMPUTES = kind == "core"
    ENDS.clear()
    for each in DELAY:
        DELAY[each] = delays.get((each, eai.rank()), 0.0)
        SLEPT[each].clear()
    trained, data = (sparse, rows(steps)) if kind == "sparse" else (model, batches(steps))
    eai.fit(trained, data, callbacks=[Stopwatch(), Dawdler(), Between()], verbose=0)
    slept = {each: float(np.mean(took[1:])) if took[1:] else 0.0 for each, took in SLEPT.items()}
    return slept, np.diff(ENDS)
'''


PART: Final = {
    "input": "input",
    "compute": "compute",
    "update": "update",
    "callback": "other",
    "other": "other",
    "stall": "other",
    "sparse": "transfer",
    "core": "compute",
    "link": "transfer",
}
"""The part in which a kind of delay lies."""

SIZES: Final = (3, 10, 30, 60, 100)
"""Percent of a calm step."""

NAMED: Final = 20
"""From this size on, in percent of a step, a delay must be in the verdict itself."""

CLOCK_OFF_S: Final = 0.050

USUAL_MBIT: Final = 500.0
SLOW_MBIT: Final = 5.0
"""What a link between hosts carries, and what is left of it when it is slow."""

QUICK: Final = 60
"""The size of the delays of a short run, in percent of a step."""


@dataclass(frozen=True)
class Injection:
    """One kind of run: what is delayed, by how much of a step, and on which ranks."""

    kind: str
    size_pct: float = 0.0
    ranks: tuple[int, ...] = ()

    @property
    def is_calm(self) -> bool:
        """Whether nothing is delayed."""
        return self.kind == "none"


CALM: Final = Injection("none")


def plan(ranks: int, count: int, seed: int) -> list[Injection]:
    """Return `count` injections and a calm run to each four of them, in random order."""
    everyone = tuple(range(ranks))
    targets = [everyone, *((rank,) for rank in everyone)]
    own = ("input", "compute", "update", "callback", "other", "stall")
    known = [
        Injection(kind, size, where)
        for kind, size, where in itertools.product(own, SIZES, targets)
        # Twenty times three percent in one step of twenty is what steps differ by anyway.
        if not (kind == "stall" and size < NAMED)
    ]
    known += [Injection("core", 100, everyone), Injection("sparse", 100, everyone)]
    shuffle = random.Random(seed)
    drawn: list[Injection] = []
    while len(drawn) < count:
        shuffle.shuffle(known)
        drawn += known
    order = [*drawn[:count], *[CALM] * max(3, count // 4)]
    shuffle.shuffle(order)
    return order


@dataclass(frozen=True, eq=False)
class Run:
    """What one run measured, and what is true of it."""

    injection: Injection
    ledger: Ledger
    slept: list[dict[str, float]]  # by rank, mean seconds a step
    verdict: Verdict
    moved: Verdict  # of the same rows, a rank's clock set off
    sum_error_pct: float
    step_errors_pct: np.ndarray
    is_loaded: bool


def one_run(
    session: Session, injection: Injection, steps: int, step_s: float, hosts: Hosts | None = None
) -> Run:
    """Train once under `injection` and read the record back."""
    before = len(session.runs)
    seconds = injection.size_pct / 100 * step_s
    delays = {(injection.kind, rank): seconds for rank in injection.ranks}
    session.push(steps=steps, delays=delays, kind=injection.kind)
    with meanwhile(injection.kind, hosts):
        session.run("slept, by_stopwatch = train(steps, delays, kind)")
    (record,) = session.runs[before:]
    context = Context.of(record.info)
    rows = {rank: record.rows(rank) for rank in record.ranks}
    ledger = merge(rows, record.info.clock_offset, record.info.clock_uncertainty)
    off = {rank: own.copy() for rank, own in rows.items()}
    for stamp in ("begin", "end", "ready", "reduced"):
        off[record.ranks[-1]][stamp] += CLOCK_OFF_S
    errors = [
        sum_errors(ledger, place, session.pull("by_stopwatch", rank))
        for place, rank in enumerate(record.ranks)
    ]
    return Run(
        injection=injection,
        ledger=ledger,
        slept=[session.pull("slept", rank) for rank in record.ranks],
        verdict=verdict(ledger, context=context),
        moved=verdict(merge(off, record.info.clock_offset), context=context),
        sum_error_pct=max(whole for whole, _ in errors),
        step_errors_pct=np.concatenate([single for _, single in errors]),
        is_loaded=_is_loaded(ledger, context),
    )


def _is_loaded(ledger: Ledger, context: Context) -> bool:
    """Return whether a run lost 5 % of its steps to other processes, by the system's own count."""
    lack, facts = context.shortage(), Facts(ledger, context)
    return lack is not None and core_loss(facts, lack).expected >= 0.05 * facts.step


def sum_errors(ledger: Ledger, place: int, by_stopwatch: np.ndarray) -> tuple[float, np.ndarray]:
    """Return by how much the parts of a rank's measured steps miss a stopwatch, in percent.

    All of them together, and each by itself. The stopwatch's first time is that of step 1.
    """
    measured = ledger.measured()
    steps = measured.steps[measured.steps > 0]
    parts = np.nansum(measured.parts[place], axis=1)[measured.steps > 0]
    truth = np.asarray(by_stopwatch)[steps - 1]
    return 100 * abs(float(parts.sum() / truth.sum() - 1)), 100 * np.abs(parts / truth - 1)


@contextlib.contextmanager
def meanwhile(kind: str, hosts: Hosts | None) -> Iterator[None]:
    """Have done to the machine what an injection does to it, if it does anything."""
    if kind == "core":
        with busy_cores():
            yield
    elif kind == "link" and hosts is not None:
        usual = hosts.rate_mbit
        hosts.shape(SLOW_MBIT)
        try:
            yield
        finally:
            hosts.shape(usual)
    else:
        yield


@contextlib.contextmanager
def busy_cores() -> Iterator[None]:
    """Have four other processes keep each core busy meanwhile."""
    burners = [
        multiprocessing.Process(target=_burn, args=(core,), daemon=True)
        for core in sorted(os.sched_getaffinity(0)) * 4
    ]
    for burner in burners:
        burner.start()
    try:
        yield
    finally:
        for burner in burners:
            burner.terminate()
            burner.join()


def _burn(core: int) -> None:
    os.setsid()  # or the scheduler counts all of them as one program
    os.sched_setaffinity(0, {core})
    while True:
        pass


def judged(run: Run, found: Verdict, calm: Ledger) -> tuple[bool, bool | None, bool | None]:
    """Return whether something was said, and if, whether part and rank are right.

    The rank is None where there is none to be right about.
    """
    injection = run.injection
    part, ranks = PART[injection.kind], run.ledger.ranks
    one = injection.ranks[0] if len(injection.ranks) < len(ranks) else None
    if injection.kind == "core":
        return found.kind != "unknown", found.kind == "cores", None
    if injection.size_pct < NAMED:
        slower = compare(calm, run.ledger).slower
        waiting = Waiting.of(run.ledger.typical())
        culprit = None if waiting is None or waiting.culprit is None else ranks[waiting.culprit]
        if slower is None:
            return False, None, None
        return True, slower.part == part, slower.rank == one or (one is not None and culprit == one)
    if found.kind == "unknown" or (found.kind == "wait_peer" and found.cause is None):
        return False, None, None
    if found.kind in ("wait_peer", "stalls"):
        return True, found.cause == part, found.rank == one
    return True, found.kind == part and (one is None or found.rank == one), found.rank == one


def errors_of(run: Run, calm: list[Run]) -> list[float]:
    """Return by how much the part of each delayed rank misses what was slept, in s."""
    kind = run.injection.kind
    if kind in ("core", "sparse", "stall", "link"):
        return []
    column = PARTS.index(PART[kind])
    seen = mean_parts(run.ledger.measured(), axis=1)[:, column]
    usual = np.median([mean_parts(r.ledger.measured(), axis=1)[:, column] for r in calm], axis=0)
    slept = [np.median([r.slept[rank][kind] for r in calm]) for rank in run.injection.ranks]
    return [
        float(seen[rank] - usual[rank] - (run.slept[rank][kind] - base))
        for rank, base in zip(run.injection.ranks, slept, strict=True)
    ]


def summarize(runs: list[Run]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the figures over all runs, and by kind."""
    calm = [run for run in runs if run.injection.is_calm]
    delayed = [run for run in runs if not run.injection.is_calm]
    judgements = [(run, *judged(run, run.verdict, _nearest(runs, run))) for run in delayed]
    moved = [judged(run, run.moved, _nearest(runs, run)) for run in delayed]
    said = [each for each in judgements if each[1]]
    ranked = [each[3] for each in said if each[3] is not None]
    errors = [abs(error) for run in delayed for error in errors_of(run, calm)]
    named = [
        "Dawdler.on_train_batch_end" in run.verdict.sentence
        for run in delayed
        if run.injection.kind == "callback" and run.injection.size_pct >= NAMED
    ]
    summary = {
        "injections": len(delayed),
        "right_part_pct": _pct([bool(each[2]) for each in said]),
        "right_rank_pct": _pct([bool(each) for each in ranked]),
        "right_name_pct": _pct(named),
        "false_alarms_pct": _pct([run.verdict.kind != "compute" for run in calm]),
        "cannot_tell_pct": _pct([not each[1] for each in judgements]),
        "median_abs_error_ms": 1e3 * float(np.median(errors)) if errors else None,
        "sum_error_pct": max(run.sum_error_pct for run in runs),
        "step_error_pct": float(
            np.percentile(np.concatenate([run.step_errors_pct for run in runs]), 99)
        ),
        "clocks_right_pct": _pct([bool(each[1]) for each in moved if each[0]]),
        "loaded_pct": _pct([run.is_loaded for run in calm]),
        "calm_runs": len(calm),
    }
    details = {}
    for kind in ("none", *PART):
        mine = [run for run in runs if run.injection.kind == kind]
        details[kind] = [
            {
                "size_pct": run.injection.size_pct,
                "ranks": run.injection.ranks,
                "wall_ms": 1e3 * float(mean(run.ledger.typical().wall)),
                "verdict": run.verdict.sentence,
                "clock_off": f"{run.moved.kind} {run.moved.rank} {run.moved.cause}",
                "errors_ms": []
                if run.injection.is_calm
                else [1e3 * e for e in errors_of(run, calm)],
            }
            for run in mine
        ]
    return summary, details


def _nearest(runs: list[Run], run: Run) -> Ledger:
    """Return the ledger of the calm run that was made nearest to `run`: machines drift."""
    at = runs.index(run)
    calm = [place for place, each in enumerate(runs) if each.injection.is_calm]
    return runs[min(calm, key=lambda place: abs(place - at))].ledger


def _pct(right: list[bool]) -> float | None:
    return 100 * float(np.mean(right)) if right else None


def quick_plan(ranks: int) -> list[Injection]:
    """Return one injection of each kind on the last rank, and a calm run before and after."""
    late, everyone = (ranks - 1,), tuple(range(ranks))
    own = ("input", "compute", "update", "callback", "other", "stall")
    known = [Injection(kind, QUICK, late) for kind in own]
    known += [Injection("update", QUICK, everyone), Injection("compute", 10, late)]
    return [
        CALM,
        *known,
        Injection("sparse", 100, everyone),
        Injection("core", 100, everyone),
        CALM,
    ]


def link_plan(count: int, seed: int) -> list[Injection]:
    """Return `count` runs with a slow link and as many calm ones, in random order."""
    order = [Injection("link", 100, (0, 1))] * count + [CALM] * count
    random.Random(seed).shuffle(order)
    return order


def measured(
    session: Session, order: list[Injection], steps: int, hosts: Hosts | None = None
) -> list[Run]:
    """Return one run after another; the first one, which compiles, says how long a step is."""
    session.run(TRAINING)
    first = one_run(session, CALM, 30, 0.0)
    step_s = float(np.median(mean(first.ledger.typical().wall, axis=0)))
    runs = []
    for number, injection in enumerate(order, 1):
        runs.append(one_run(session, injection, steps, step_s, hosts))
        about = f"{injection.kind} {injection.size_pct:g} % {injection.ranks}"
        harness.say(f"{number}/{len(order)} {about}: {runs[-1].verdict.sentence}")
    return runs


def over_links(count: int, steps: int, seed: int) -> list[Run]:
    """Return runs on two hosts whose link is slow in some of them."""
    from _on_hosts import choose_ring  # noqa: F401 -- the tests' hosts get onto the path
    from hosts.cluster import Hosts, why_not

    if reason := why_not():
        sys.exit(f"no hosts here: {reason}")
    with Hosts(2, rate_mbit=USUAL_MBIT) as hosts:
        os.environ.update(hosts.environment())
        with Session(hosts=",".join(f"{name}:1" for name in hosts.names)) as session:
            return measured(session, link_plan(count, seed), steps, hosts)


def main() -> None:
    """Run all injections in random order and say how well they were found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--injections", type=int, default=300)
    parser.add_argument("--links", type=int, default=0, help="runs with a slow link, on hosts")
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one of each kind")
    arguments = parser.parse_args()
    if arguments.links:
        name, runs = (
            "ledger_truth_links",
            over_links(arguments.links, arguments.steps, arguments.seed),
        )
    else:
        name = "ledger_truth" if arguments.ranks == 2 else f"ledger_truth_{arguments.ranks}"
        order = plan(arguments.ranks, arguments.injections, arguments.seed)
        order = quick_plan(arguments.ranks) if arguments.quick else order
        with Session(arguments.ranks) as session:
            runs = measured(session, order, arguments.steps)
    summary, details = summarize(runs)
    if arguments.quick:
        sys.stdout.write(json.dumps(summary) + "\n")  # not a result: no file
    else:
        harness.finish(name, summary, details)


if __name__ == "__main__":
    main()
