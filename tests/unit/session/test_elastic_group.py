"""A group whose ranks outlive each other: deaths between cells, in cells, in elastic training."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import TYPE_CHECKING

import pytest

from eai_notebook.errors import EaiError
from eai_notebook.session import Session
from eai_notebook.session.observer import Watcher

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.drill, pytest.mark.ranks]

SET_UP = """
import os, signal
import keras, numpy as np
import eai_notebook as eai
from eai_notebook import collective
kept = eai.rank() * 10
"""
SUM = "total = float(collective.allreduce_numpy(np.array([1.0]))[0])"
DIE_IN_EXCHANGE = """
if eai.rank() == eai.size() - 1:
    os.kill(os.getpid(), signal.SIGKILL)
collective.allreduce_numpy(np.ones(3))
"""
TRAIN = """
import pathlib, time

class Pause(keras.callbacks.Callback):
    def on_train_batch_begin(self, batch, logs=None):
        if batch == 3 and eai.rank() == 0 and {pauses}:
            pathlib.Path({folder!r}, "waits").touch()
            while not pathlib.Path({folder!r}, "asked").exists():
                time.sleep(0.01)

def trained():
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dropout(0.2), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    x = np.random.default_rng(0).normal(size=(64, 2)).astype("float32")
    options = {{"batch_size": 4, "epochs": 2, "verbose": 0, "callbacks": [Pause()]}}
    found = eai.fit(model, x, x[:, :1], elastic=True, virtual_ranks=4, **options)
    return found.history["loss"]

losses_{pauses} = trained()
total = float(collective.allreduce_numpy(np.array([1.0]))[0])
"""


GROW = """
from eai_notebook.collective import newcomers

class WaitForNewcomer(keras.callbacks.Callback):
    step = 0

    def on_train_batch_begin(self, batch, logs=None):
        self.step += 1
        if self.step in (4, 5) and eai.rank() == 0:  # until it asks, and until it is ready
            assert newcomers.wait_for_request()

Pause = WaitForNewcomer
losses_grown = trained()
total = float(collective.allreduce_numpy(np.array([1.0]))[0])
"""


class Listening(Watcher):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = ""

    def text(self, stream: str, text: str) -> None:  # noqa: ARG002
        """Keep it."""
        self.written += text


WATCHER = Listening()


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    """An elastic group of four, all of whose tests follow on each other."""
    with Session(4, elastic=True, watcher=WATCHER) as running:
        running.run(SET_UP, setup=True)
        yield running


def test_ranks_die_and_the_others_keep_their_variables(session: Session) -> None:
    os.kill(session.pids[3], signal.SIGKILL)
    with pytest.raises(EaiError) as died:
        _run_until_it_is_known(session)
    assert died.value.code == "rank-died"
    assert "rank 3" in died.value.what
    assert "SIGKILL" in died.value.what
    session.run(SUM)
    assert [session.pull("total", rank) for rank in range(3)] == [3.0] * 3
    assert [session.pull("kept", rank) for rank in range(3)] == [0, 10, 20]
    states = {rank["rank"]: rank["state"] for rank in session.group_model()["ranks"]}
    assert states == {0: "up", 1: "up", 2: "up", 3: "gone"}
    with pytest.raises(EaiError) as gone:
        session.run("pass", ranks=[2, 3])
    assert gone.value.code == "rank-gone"


def _run_until_it_is_known(session: Session) -> None:
    while True:
        session.run(SUM)


def test_so_they_do_when_one_dies_in_an_exchange(session: Session) -> None:
    with pytest.raises(EaiError) as died:
        session.run(DIE_IN_EXCHANGE)
    assert died.value.code == "rank-died"
    assert "rank 2" in died.value.what
    session.run(SUM)
    assert [session.pull("total", rank) for rank in range(2)] == [2.0] * 2
    assert [session.pull("kept", rank) for rank in range(2)] == [0, 10]
    session.push(pushed=1)


def test_elastic_training_goes_on_without_a_rank_that_is_asked_to_leave(
    session: Session, tmp_path: Path
) -> None:
    with pytest.raises(EaiError) as none:
        session.shrink([0, 1])
    assert none.value.code == "no-rank-left"

    def ask() -> None:
        while not (tmp_path / "waits").exists():
            time.sleep(0.05)
        session.shrink([0])
        (tmp_path / "asked").touch()

    session.run(TRAIN.format(pauses=False, folder=str(tmp_path)))
    asking = threading.Thread(target=ask)
    asking.start()
    session.run(TRAIN.format(pauses=True, folder=str(tmp_path)))
    asking.join()
    assert session.pull("losses_True") == pytest.approx(session.pull("losses_False"), rel=1e-6)
    assert session.pull("total") == 1.0
    assert session.pull("kept") == 10
    assert "rank 0 is gone at step 3" in WATCHER.written
    assert "rank 0 has left, as it was asked to" in WATCHER.written


def test_a_rank_that_has_died_is_replaced_and_gets_the_weights(session: Session) -> None:
    session.run("model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])")
    session.run("model.set_weights([np.full((2, 1), 7.0), np.ones(1)]); kept = 11")
    session.grow(1)
    session.run(SUM)
    assert [session.pull("total", rank) for rank in (0, 1)] == [2.0, 2.0]
    assert [session.pull("kept", rank) for rank in (0, 1)] == [0, 11]
    assert session.pull("model", 0).get_weights()[0].tolist() == [[7.0], [7.0]]
    states = {rank["rank"]: rank["state"] for rank in session.group_model()["ranks"]}
    assert states == {0: "up", 1: "up", 2: "gone", 3: "gone"}


def test_a_rank_joins_elastic_training(session: Session, tmp_path: Path) -> None:
    training = TRAIN.format(pauses=False, folder=str(tmp_path)).partition("losses_False")[0]
    session.run(training, setup=True)
    growing = threading.Thread(target=_grow_when_busy, args=[session])
    growing.start()
    session.run(GROW)
    growing.join()
    usual = session.pull("losses_False", 1)
    for rank in (0, 1, 2):
        assert session.pull("losses_grown", rank) == pytest.approx(usual, rel=1e-6)
        assert session.pull("total", rank) == 3.0
    assert "rank 2 joins at step" in WATCHER.written
    session.run(SUM)
    assert session.pull("total", 2) == 3.0
    assert "separate models" not in WATCHER.written


def _grow_when_busy(session: Session) -> None:
    while session.state != "busy":
        time.sleep(0.01)
    session.grow(1)
