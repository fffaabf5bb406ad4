"""A trial keeps what helps, puts back what does not, and is not fooled by noise."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from eai_notebook.train.trials import knobs
from eai_notebook.train.trials.always_valid import interval
from eai_notebook.train.trials.step_trial import MOST, Change, StepTrial

if TYPE_CHECKING:
    from eai_notebook.ledger.trial_outcome import Outcome

STEP = 0.012


class Dial(knobs.Knob):
    """A knob of which the steps of `trial` depend."""

    def __init__(self) -> None:
        self.value, self.released = 2, False

    def get(self) -> int:
        return self.value

    def set(self, value: int) -> None:
        self.value = value

    def release(self) -> None:
        self.released = True


def trial(gain: float, noise: float, seed: int, steps: int = 3000) -> tuple[Outcome, Dial, int]:
    """Return the outcome of a change that saves `gain` of a step, the knob, and the steps taken."""
    rng, dial, now = np.random.default_rng(seed), Dial(), [0.0]
    found: list[Outcome] = []
    change = Change("dial", 4, "turn it up", gain * STEP, 0.0, gain * STEP)
    tried = StepTrial(change, dial, found.append, agree=lambda times: times, clock=lambda: now[0])
    for step in range(steps):
        tried.before_step()
        if found:
            return found[0], dial, step
        drift = 0.0002 * np.sin(step / 300)
        length = STEP * (1 - gain * (dial.value == 4)) + drift + abs(rng.normal(0, noise * STEP))
        now[0] += length + 0.2 * (rng.random() < 0.01)
    tried.end()
    return found[0], dial, steps


@pytest.mark.parametrize("seed", range(3))
def test_what_helps_is_kept_early(seed: int) -> None:
    outcome, dial, steps = trial(0.2, 0.02, seed)
    assert (outcome.decision, dial.value) == ("kept", 4)
    assert outcome.low_ms < 0.2 * 1e3 * STEP < outcome.high_ms
    assert steps < 400
    assert outcome.to_text().startswith("turn it up: expected 2.4 ms a step less, measured 2.")
    assert outcome.to_text().endswith(": kept")


@pytest.mark.parametrize("gain", [-0.2, -0.05])
def test_what_hinders_is_put_back(gain: float) -> None:
    outcome, dial, _ = trial(gain, 0.02, 1)
    assert (outcome.decision, dial.value, dial.released) == ("put back", 2, True)
    assert outcome.to_text().endswith(": put back: it is 2 again")


def test_of_equals_hardly_one_is_kept() -> None:
    decisions = [trial(0.0, 0.03, seed)[0].decision for seed in range(30)]
    assert decisions.count("kept") == 0


def test_a_training_that_ends_puts_back_what_is_undecided() -> None:
    outcome, dial, _ = trial(0.1, 0.02, 0, steps=40)
    assert (outcome.decision, dial.value) == ("undecided", 2)


def test_the_interval_holds_at_every_look() -> None:
    rng = np.random.default_rng(4)
    missed = 0
    for _ in range(200):
        drawn = rng.normal(1.0, 2.0, MOST).tolist()
        looks = [interval(drawn[:count], alpha=0.05) for count in range(2, MOST + 1)]
        missed += any(not low <= 1.0 <= high for low, high in looks)
    assert missed / 200 <= 0.05


def test_a_knob_that_there_is_not_is_none() -> None:
    assert knobs.find("readers", object()) is None
    assert knobs.find("unknown", None) is None
