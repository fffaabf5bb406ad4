"""What `fit` tells of the training while it goes on: loss, metrics, epochs and the run's name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from eai_notebook.telemetry import messages
from eai_notebook.telemetry.messages import RunBegan, TrainingProgress
from eai_notebook.train.recording import step_clock

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow


@pytest.fixture
def told() -> Iterator[list[Any]]:
    """Return the messages of this process, as they come."""
    heard: list[Any] = []
    before = messages.set_sink(heard.append)
    yield heard
    messages.set_sink(before)


def train(**arguments: Any) -> Any:
    import keras

    from eai_notebook.train._fit import fit

    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)], name="small")
    model.compile("sgd", "mse", metrics=["mae"])
    data = np.ones((64, 2), "float32"), np.ones((64, 1), "float32")
    return fit(model, data, epochs=2, batch_size=4, verbose=0, validation_data=data, **arguments)


def test_a_fit_tells_its_losses_and_what_each_epoch_came_to(
    told: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step_clock.StepClock, "_interval", 0.0)  # send after each step
    history = train(name="first try")
    (began,) = [message for message in told if isinstance(message, RunBegan)]
    assert began.name == "first try"
    assert not began.meta.get("unnamed")
    progress = [message for message in told if isinstance(message, TrainingProgress)]
    ends = [message for message in progress if message.whole]
    assert [(end.epoch, end.step) for end in ends] == [(0, 16), (1, 32)]
    for end in ends:
        assert end.values["loss"] == pytest.approx(history.history["loss"][end.epoch])
        assert end.values["val_mae"] == pytest.approx(history.history["val_mae"][end.epoch])
    running = [message for message in progress if not message.whole]
    assert running
    assert set(running[-1].values) == {"loss", "mae"}


def test_a_run_is_called_after_its_model_unless_it_is_named(told: list[Any]) -> None:
    train()
    (began,) = [message for message in told if isinstance(message, RunBegan)]
    assert (began.name, began.meta["unnamed"]) == ("small", True)
