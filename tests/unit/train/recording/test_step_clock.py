"""What `fit` reports about the training while it goes on: loss, metrics, epochs and the run's name."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from eai_notebook.telemetry import messages
from eai_notebook.telemetry.messages import RunBegan, StepsDone, TrainingProgress
from eai_notebook.train.recording import graph_timestamps, step_clock, step_rows
from eai_notebook.train.recording.step_sampling import MARKS_SHARE, SELDOM_S, is_measured, stride

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow


@pytest.fixture
def sent() -> Iterator[list[Any]]:
    """Return the messages of this process, as they come."""
    heard: list[Any] = []
    before = messages.set_sink(heard.extend)
    yield heard
    messages.set_sink(before)


def train(**arguments: Any) -> Any:
    import keras

    from eai_notebook.train._fit import fit

    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)], name="small")
    model.compile("sgd", "mse", metrics=["mae"])
    data = np.ones((64, 2), "float32"), np.ones((64, 1), "float32")
    return fit(model, data, epochs=2, batch_size=4, verbose=0, validation_data=data, **arguments)


def at_once(clock: step_clock.StepClock) -> None:
    """Have a clock send after each step."""
    clock._pause, clock._due = 0.0, 0.0


def never(clock: step_clock.StepClock) -> None:
    """Have a clock send only when it is asked to."""
    clock._pause = clock._due = math.inf


def test_all_ranks_send_after_the_same_step(
    sent: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr(time, "time", lambda: now[0])
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    clocks = [step_clock.StepClock("r", 0, 64, _opened=now[0])]
    ends: dict[int, list[int]] = {}
    for step in range(2000):
        now[0] += 0.037
        if step in (5, 11):  # the others come a little later
            clocks.append(step_clock.StepClock("r", len(clocks), 64, _opened=now[0]))
        for clock in clocks:
            clock.take(np.float64(1.0), marked=False)
    step_clock._sender.drain()
    for message in sent:
        if isinstance(message, StepsDone):
            ends.setdefault(message.rank, []).append(round(1e3 * message.rows["end"][-1]))
    late = [{end for end in ends[rank] if end > 1_012_000} for rank in range(3)]
    assert late[0] == late[1] == late[2]
    # Twice a second, also of as many ranks as these say: a step is seen within 0.8 s.
    assert 110 < len(late[0]) < 127


def test_a_clock_that_is_set_back_does_not_stop_the_batches(
    sent: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr(time, "time", lambda: now[0])
    clock = step_clock.StepClock("r", 0, 1)
    for now[0] in (1000.01, 400.0):
        clock.take(np.float64(1.0), marked=False)
    step_clock._sender.drain()
    assert [type(message) for message in sent] == [StepsDone]


def test_nothing_is_handed_over_between_a_steps_end_and_the_next_ones_begin(
    sent: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs: list[Any] = []
    monkeypatch.setattr(step_clock._sender, "submit", jobs.append)
    clock = step_clock.StepClock("r", 0, 2)
    handed = []
    for _ in range(3):
        assert clock.begin_step()
        clock._pause, clock._due = 0.0, 0.0  # it is time after each step
        before = len(jobs)
        clock.take(np.float64(16.0))
        assert len(jobs) == before  # callbacks and Keras's loop run now
        handed.append(before)
    clock.begin_step()
    # After the first step, which plans the graph, the use of processors is looked at anew.
    assert [*handed, len(jobs)] == [0, 2, 3, 4]
    for job in jobs:
        job()
    assert [len(message.rows) for message in sent if isinstance(message, StepsDone)] == [1, 1, 1]


def test_a_fit_reports_its_losses_and_what_each_epoch_came_to(
    sent: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step_clock.StepClock, "_schedule", at_once)
    history = train(name="first try")
    (began,) = [message for message in sent if isinstance(message, RunBegan)]
    assert began.name == "first try"
    assert not began.meta.get("unnamed")
    progress = [message for message in sent if isinstance(message, TrainingProgress)]
    ends = [message for message in progress if message.whole]
    assert [(end.epoch, end.step) for end in ends] == [(0, 16), (1, 32)]
    for end in ends:
        assert end.values["loss"] == pytest.approx(history.history["loss"][end.epoch])
        assert end.values["val_mae"] == pytest.approx(history.history["val_mae"][end.epoch])
    running = [message for message in progress if not message.whole]
    assert running
    assert set(running[-1].values) == {"loss", "mae"}


def test_a_run_is_called_after_its_model_unless_it_is_named(sent: list[Any]) -> None:
    train()
    (began,) = [message for message in sent if isinstance(message, RunBegan)]
    assert (began.name, began.meta["unnamed"]) == ("small", True)


def test_a_step_without_marks_is_its_length_and_its_samples(sent: list[Any]) -> None:
    clock = step_clock.StepClock("r", 0, 2)
    width = step_rows.HEAD + graph_timestamps.WIDTH
    for step in range(4):
        marks = np.full(width, np.nan)
        marks[step_rows.SAMPLES] = 32.0
        clock.take(marks if step == 2 else np.float64(16.0), marked=step == 2)
    clock.named.add("callback", 0.25)
    clock.take(np.float64(8.0), marked=False)
    clock.flush()
    step_clock._sender.drain()
    rows = np.concatenate([each.rows for each in sent if isinstance(each, StepsDone)])
    assert rows["samples"].tolist() == [16.0, 16.0, 32.0, 16.0, 8.0]
    assert np.isnan(rows["compute"]).all()
    assert (rows["end"] >= rows["begin"]).all()
    assert rows["callback"].tolist() == [0.0, 0.0, 0.0, 0.0, 0.25]


@pytest.mark.parametrize("marks_s", [1e-5, 1e-4, 1e-3])
@pytest.mark.parametrize("step_s", [0.002, 0.012, 0.05, 0.2, 1.0])
def test_marks_take_no_more_than_their_share(step_s: float, marks_s: float) -> None:
    every = stride(step_s, marks_s)
    assert marks_s / (every * step_s) <= MARKS_SHARE or 2 * every * step_s > SELDOM_S
    assert every == 1 or every * step_s <= SELDOM_S
    # What one rank measures, one with a smaller stride measures too.
    steps = [step for step in range(2000) if is_measured(step, every)]
    assert all(is_measured(step, every // 2 or 1) for step in steps)
    assert len(steps) == pytest.approx(2000 / every, rel=0.1, abs=1.5)


def test_a_run_measures_fewer_steps_where_its_own_lengths_show_that_marks_cost_much(
    sent: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step_clock.StepClock, "_schedule", never)
    strides = []
    for cost in (0.0, 0.0008):
        clock = step_clock.StepClock("r", 0, 2, marks_s=1e-6)
        for step in range(2000):
            marked = clock.measures_next
            clock._begin = 100.0 + 0.012 * step
            clock.take(np.float64(16.0), marked=marked)
            clock._ends[-1] = clock._begins[-1] + 0.012 + cost * marked
            if step % 50 == 49:
                clock.flush()
        step_clock._sender.drain()
        strides.append(clock._every)
        assert clock.cost_s == pytest.approx(max(cost, 1e-6), rel=1e-3)
    assert strides == [8, 64]
