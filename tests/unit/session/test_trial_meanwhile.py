"""A change that is asked for while ranks train is tried on all of them, from the same step on."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
from waiting import PATIENCE_S, wait_until

from eai_notebook.session import Session
from eai_notebook.session.trial_request import NOW

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import PreloadedRanks

TRAINING = """
import keras, numpy as np, tensorflow as tf
import eai_notebook as eai
from eai_notebook.train.recording import step_clock
from eai_notebook.train.trials import step_trial, trial_watch

trial_watch.EVERY_S = 0.05

class Awaited(keras.callbacks.Callback):
    '''Does not end before the trial has; meanwhile steps go on, and what they measure is sent.'''

    def on_epoch_end(self, epoch, logs=None):
        self.model.stop_training = "trial" in step_clock.current().notes

model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(8), keras.layers.Dense(1)])
model.compile("sgd", "mse")
rng = np.random.default_rng(eai.rank())
rows = tf.data.Dataset.from_tensors((rng.normal(size=(8, 8)), rng.normal(size=(8, 1)))).repeat()
eai.fit(model, rows, epochs=1_000_000, steps_per_epoch=20, verbose=0, callbacks=[Awaited()])
left = step_trial.is_armed()
"""

CHANGE = {
    "knob": "fused_bytes", "value": 1 << 20, "words": "smaller messages",
    "expected": 0.001, "low": 0.0, "high": 0.002,
}  # fmt: skip


@pytest.mark.ranks
@pytest.mark.slow
def test_ranks_try_a_change_in_the_training_that_goes_on(
    tmp_path: Path, monkeypatch: Any, preloaded_ranks: PreloadedRanks
) -> None:
    monkeypatch.setenv("EAI_RUNS", str(tmp_path / "runs"))
    with preloaded_ranks(), Session(2) as session:
        training = threading.Thread(target=session.run, args=(TRAINING,))
        training.start()
        trains = wait_until(lambda: session.runs and len(session.runs[0].rows(0)))
        assert trains
        assert session.try_change(CHANGE) == NOW
        training.join(PATIENCE_S)
        assert not training.is_alive()
        found = session.runs[-1].info.meta["trial"]
        assert found["words"] == "smaller messages"
        assert found["decision"] in ("kept", "put back", "undecided")
        assert found["differences"] >= 4
        assert session.pull("left", 0) is False
