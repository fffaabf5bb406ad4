"""Is the advice right: the first remedy, its expected gain, and what a trial keeps?

Bottlenecks with a known remedy are planted in synthetic step records, and in records of the same
run with the remedy. The advice sees the first only. What it expects is compared with the difference of the
two. Trials run the package's own code on a stopwatch that the benchmark moves: knobs that do
nothing or harm, and comparisons of a setting with itself, on a machine that drifts and stalls. Nothing
is timed, so the load of the machine does not matter.

- `planted`: kinds of bottlenecks. `right_first_pct`: runs whose first remedy is the planted one.
- `expected_within_15pct`: runs whose expected gain differs from the gain by at most 15 %.
- `useless_reverted_pct`: trials of a knob that gains nothing that end with the old value.
- `aa_kept_pct`: trials of a setting against itself that end as kept.
- `useful_kept_pct`: trials of a knob that saves 5 to 30 % that end as kept.

    python benchmarks/advice.py                 # 20 runs of each kind, 1000 trials
    python benchmarks/advice.py --trials 100 --runs 3
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import _harness as harness
import numpy as np
from synthetic import run_rows

from eai_notebook.advice.advise import advise
from eai_notebook.ledger.context import Context
from eai_notebook.ledger.facts import Facts
from eai_notebook.ledger.merge import merge
from eai_notebook.ledger.trial_outcome import Outcome
from eai_notebook.train.trials.knobs import Knob
from eai_notebook.train.trials.step_trial import Change, StepTrial

BATCH_S = 0.040
"""What one reader takes to make a batch, times the readers."""

REST_S = 0.0126
"""A step without what is planted."""


@dataclass(frozen=True)
class Planted:
    """A bottleneck: the run before and with its remedy, and words of the remedy.

    ``before`` and ``after`` are lengths of parts in seconds, ``late`` those of rank 1 alone; ``name``
    is a kind of `NAMED` that the planted `other` is. Where nobody knows how well a remedy works, it is
    drawn from ``works``: the share of the difference that it really makes.
    """

    remedy: str
    before: dict[str, float]
    after: dict[str, float]
    context: dict[str, Any] = field(default_factory=dict)
    name: str = ""
    late: bool = False
    samples: tuple[float, float] | None = None
    works: tuple[float, float] = (1.0, 1.0)


def _named(kind: str, text: str) -> dict[str, Any]:
    return {"named": {rank: {f"{kind} {text}": 9.0} for rank in (0, 1)}}


READERS = {"input": {rank: {"readers": 2.0, "batches": 9.0, "parse": 1.0} for rank in (0, 1)}}
KINDS = {
    "few readers": Planted(
        "twice the readers", {"input": 0.030}, {"input": 0.0087}, READERS, works=(0.7, 1.0)
    ),
    "no reading ahead": Planted(
        "`dataset.prefetch", {"input": 0.011}, {"input": 0.0}, works=(0.8, 1.0)
    ),
    "one rank has few readers": Planted(
        "twice the readers",
        {"input": 0.030},
        {"input": 0.0087},
        READERS,
        late=True,
        works=(0.7, 1.0),
    ),
    "slow link": Planted(
        "`gradient_accumulation_steps=4`", {"transfer": 0.030}, {"transfer": 0.0075}
    ),
    "Adam": Planted(
        "SGD in place of Adam",
        {"update": 0.020},
        {"update": 0.020 * 3 / 7},
        {"meta": {"optimizer": "Adam"}},
        works=(0.8, 1.2),
    ),
    "many updates": Planted(
        "twice the `batch_size`",
        {"update": 0.020},
        {"update": 0.010},
        {"meta": {"optimizer": "SGD"}},
    ),
    "callback": Planted(
        "the work of `Slow.on_train_batch_end` in every 100th",
        {"other": 0.020},
        {"other": 0.0002},
        _named("callback", "Slow.on_train_batch_end"),
        "callback",
    ),
    "section": Planted(
        "the work of `augment` in every 10th",
        {"other": 0.020},
        {"other": 0.002},
        _named("section", "augment"),
        "section",
    ),
    "checkpoints": Planted(
        "half as many checkpoints", {"other": 0.020}, {"other": 0.010}, {}, "checkpoint"
    ),
    "iterators": Planted("`data.repeat()`", {"other": 0.020}, {"other": 0.0}, {}, "iterator"),
    "retracing": Planted("batches of one shape", {"other": 0.020}, {"other": 0.0}, {}, "compiling"),
    "garbage": Planted(
        "`gc.freeze()`", {"other": 0.020}, {"other": 0.0}, {}, "collector", works=(0.5, 1.0)
    ),
    "unequal batches": Planted(
        "equal batches",
        {"compute": 0.010},
        {"compute": 0.0},
        late=True,
        samples=(512.0, 1024.0),
    ),
}


def facts(kind: Planted, parts: dict[str, float], seed: int) -> Facts:
    """Return a run on two ranks with a planted length of parts."""
    added = {"late": {1: parts}} if kind.late else dict(parts)
    rows = run_rows(2, 300, seed=seed, jitter=0.0004, compile_step=False, **added)
    for rank, own in rows.items():
        if kind.name:
            own[kind.name] = parts["other"]
        if kind.samples is not None:
            own["samples"] = kind.samples[rank]
    return Facts(merge(rows, {}), Context(**kind.context))


def judged(kind: Planted, seed: int) -> tuple[bool, float, str]:
    """Return whether the first remedy is right, what it expects over what is gained, and its words."""
    works = np.random.default_rng(seed).uniform(*kind.works)
    left = {
        part: length - works * (length - kind.after[part]) for part, length in kind.before.items()
    }
    before, after = facts(kind, kind.before, seed), facts(kind, left, seed + 1000)
    # With equal batches rank 1 hands half of what it has more to rank 0, which then is no earlier.
    unequal = kind.before.get("compute", 0.0) / 2
    gained = before.step - after.step if kind.samples is None else unequal
    remedies = advise(before).remedies
    if not remedies:
        return False, float("nan"), "nothing"
    return kind.remedy in remedies[0].words, remedies[0].gain.expected / gained, remedies[0].words


class Dial(Knob):
    """A knob of a machine that the benchmark imitates."""

    def __init__(self) -> None:
        self.value = 1

    def get(self) -> int:
        """Return the value."""
        return self.value

    def set(self, value: int) -> None:
        """Set it."""
        self.value = value


def trial(gain: float, seed: int) -> Outcome:
    """Return the outcome of a trial whose knob saves a share of a step."""
    rng, dial = np.random.default_rng(seed), Dial()
    now, found = [0.0], list[Outcome]()
    noise, period = rng.uniform(0.005, 0.06), rng.uniform(100, 3000)
    change = Change("dial", 2, "turn the dial", gain * REST_S, 0.0, gain * REST_S)
    tried = StepTrial(change, dial, found.append, agree=lambda own: own, clock=lambda: now[0])
    busy = 0.0  # a burst of another program's, which lasts some steps
    for step in range(5000):
        tried.before_step()
        if found:
            break
        busy = rng.exponential(0.004) if rng.random() < 0.01 else 0.8 * busy
        drift = 0.03 * np.sin(step / period)
        length = REST_S * (1 + drift - gain * (dial.value == 2)) + busy
        now[0] += length * (1 + abs(rng.normal(0, noise)))
    tried.end()
    return found[0]


def main() -> None:
    """Judge the advice and the trials."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20, help="of each kind")
    parser.add_argument(
        "--trials", type=int, default=1000, help="against itself; half as many others"
    )
    arguments = parser.parse_args()
    right, close, details = [], [], {}
    for name, kind in KINDS.items():
        found = [judged(kind, seed) for seed in range(arguments.runs)]
        right += [each[0] for each in found]
        close += [abs(each[1] - 1) <= 0.15 for each in found]
        ratios = [each[1] for each in found]
        details[name] = {"first": sorted({each[2] for each in found}), "expected/gained": ratios}
        harness.say(f"{name}: {np.mean([e[0] for e in found]):.0%} right, {np.median(ratios):.2f}")
    count = arguments.trials
    same = [trial(0.0, seed).decision for seed in range(count)]
    useless = [trial(-0.1 * (seed % 3) / 2, 10_000 + seed).decision for seed in range(count // 2)]
    useful = [trial(0.05 + 0.25 * (seed % 11) / 10, 20_000 + seed) for seed in range(count // 2)]
    summary = {
        "planted": len(KINDS),
        "right_first_pct": 100 * float(np.mean(right)),
        "expected_within_15pct": 100 * float(np.mean(close)),
        "useless_reverted_pct": 100 * float(np.mean([each != "kept" for each in useless])),
        "aa_kept_pct": 100 * float(np.mean([each == "kept" for each in same])),
        "useful_kept_pct": 100 * float(np.mean([each.decision == "kept" for each in useful])),
    }
    steps = float(np.median([each.differences for each in useful]))
    harness.finish("advice", summary, {"median_differences": steps, **details})


if __name__ == "__main__":
    main()
