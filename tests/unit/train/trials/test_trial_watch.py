"""A trial that is asked for while a training goes on begins between two of its steps."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from eai_notebook.train.trials import knobs, step_trial
from eai_notebook.train.trials.step_trial import Change, StepTrial
from eai_notebook.train.trials.trial_watch import FIRST, TrialWatch

if TYPE_CHECKING:
    from eai_notebook.ledger.trial_outcome import Outcome


class Dial(knobs.Knob):
    """A setting of 2 at first; with 4 steps are a fifth shorter."""

    def __init__(self) -> None:
        self.value = 2

    def get(self) -> int:
        return self.value

    def set(self, value: int) -> None:
        self.value = value


CHANGE = Change("dial", 4, "turn it up", 0.0024, 0.001, 0.003)


@pytest.fixture
def dial(monkeypatch: pytest.MonkeyPatch) -> Dial:
    found = Dial()
    monkeypatch.setattr(step_trial, "_armed", None)
    monkeypatch.setattr(knobs, "find", lambda name, _data: found if name == "dial" else None)
    return found


def watch(notes: list[dict[str, Any]], tuner: Any = None) -> TrialWatch:
    def begin() -> StepTrial | None:
        return step_trial.of_armed(None, lambda **found: notes.append(found))

    return TrialWatch(tuner, begin, every_s=lambda: 0.0)  # at every step, whatever the machine


def steps(watched: TrialWatch, dial: Dial, count: int, clock: Clock) -> None:
    for _ in range(count):
        watched.before_step()
        clock.passes(0.012 if dial.value == 2 else 0.0096)


class Clock:
    """Time that passes by request."""

    def __init__(self) -> None:
        self.now, self._rng = 0.0, np.random.default_rng(1)

    def __call__(self) -> float:
        return self.now

    def passes(self, seconds: float) -> None:
        self.now += seconds + 1e-5 * self._rng.random()


def test_what_is_asked_for_meanwhile_is_tried_and_kept(
    dial: Dial, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    notes: list[dict[str, Any]] = []
    clock = Clock()
    monkeypatch.setattr(time, "perf_counter", clock)
    monkeypatch.setattr(StepTrial.__init__, "__defaults__", (None, clock))
    watched = watch(notes)
    steps(watched, dial, 3 * FIRST, clock)
    assert (dial.value, notes) == (2, [])
    step_trial.arm(asdict(CHANGE))
    steps(watched, dial, 400, clock)
    assert dial.value == 4
    assert notes[0]["trial"]["decision"] == "kept"
    assert "turn it up: expected 2.4 ms a step less, measured 2.4" in capsys.readouterr().out
    # And when it is over, another may be asked for.
    step_trial.arm(asdict(Change("dial", 2, "turn it down", 0.001, 0.0, 0.002)))
    steps(watched, dial, 400, clock)
    assert dial.value == 4
    assert notes[1]["trial"]["decision"] == "put back"


class Sizes:
    """Tunes for three steps."""

    def __init__(self) -> None:
        self.steps = 0
        self.chosen: int | None = None

    def before_step(self) -> bool:
        self.steps += 1
        if self.steps == 3:
            self.chosen = 1
        return self.steps == 3


def test_what_tunes_the_first_steps_goes_first() -> None:
    sizes = Sizes()
    watched = watch([], sizes)
    assert [watched.before_step() for _ in range(5)] == [False, False, True, False, False]
    assert sizes.steps == 3


def test_an_unfinished_trial_ends_with_the_training(dial: Dial) -> None:
    found: list[Outcome] = []
    trial = StepTrial(CHANGE, dial, found.append, agree=lambda times: times)
    watched = watch([], trial)
    for _ in range(20):
        watched.before_step()
    watched.end()
    assert (found[0].decision, dial.value) == ("undecided", 2)
