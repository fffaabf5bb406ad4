"""An elastic group whose second host is lost in training: its processes killed, its cable pulled."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from typing import TYPE_CHECKING

import psutil
import pytest
from hosts.cluster import pids_on
from hosts.test_lost import left_on
from unit.session.test_elastic_group import SET_UP, SUM, TRAIN, Listening
from waiting import PATIENCE_S

from eai_notebook.session import Session

if TYPE_CHECKING:
    from pathlib import Path

    from hosts.cluster import Hosts

pytestmark = [pytest.mark.drill, pytest.mark.ranks, pytest.mark.slow]

LOSE_HOST = """
import pathlib, time

class Pause(keras.callbacks.Callback):
    def on_train_batch_begin(self, batch, logs=None):
        ends.append(time.time())
        if len(ends) == 4 and eai.rank() == 0:
            pathlib.Path({folder!r}, "ready").touch()
            while not pathlib.Path({folder!r}, "lost").exists():
                time.sleep(0.01)

ends = []
losses_True = trained()
total = float(collective.allreduce_numpy(np.array([1.0]))[0])
"""


@pytest.mark.parametrize("how", ["killed", "cable pulled"])
def test_a_host_is_lost_in_training(
    hosts: Hosts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setenv("EAI_RUNS", str(tmp_path / "runs"))
    away = hosts.names[1]
    lost_at: list[float] = []
    watcher = Listening()

    def lose() -> None:
        while not (tmp_path / "ready").exists():
            time.sleep(0.02)
        if how == "killed":
            doomed = [pid for pid in pids_on(away) if "sshd" not in _words(pid)]
            for pid in doomed:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        else:
            hosts.cut(away)
        lost_at.append(time.time())
        (tmp_path / "lost").touch()

    losing = threading.Thread(target=lose)
    places = ",".join(f"{name}:1" for name in hosts.names)
    try:
        with Session(hosts=places, elastic=True, watcher=watcher) as session:
            session.run(SET_UP)
            session.run(TRAIN.format(pauses=False, folder=str(tmp_path)))
            losing.start()
            session.run(LOSE_HOST.format(folder=str(tmp_path)))
            losing.join()
            usual = session.pull("losses_False", 0)
            assert session.pull("losses_True", 0) == pytest.approx(usual, rel=1e-6)
            assert session.pull("total", 0) == 1.0
            assert any(at > lost_at[0] for at in session.pull("ends", 0))
            assert f"rank 1 died: the host {away} was lost" in watcher.written
            session.run(SUM)
            assert session.pull("kept", 0) == 0
    finally:
        hosts.mend(away)
    assert left_on(hosts, PATIENCE_S) == []


def _words(pid: int) -> str:
    try:
        process = psutil.Process(pid)
        return " ".join(process.cmdline()) + process.name()
    except psutil.NoSuchProcess:
        return "sshd"
