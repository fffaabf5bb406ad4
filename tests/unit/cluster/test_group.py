"""A group's life beside a session's: kept, found again, and a start that is interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from eai_notebook.cluster import registry
from eai_notebook.cluster.group_start import _start_controller, _twice
from eai_notebook.errors import EaiError
from eai_notebook.session import Session, Watcher

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.ranks, pytest.mark.slow]

OWNER = """
from eai_notebook.session import Session
session = Session(2)
session.up(keep=True)
session.run("from eai_notebook import collective; secret = 40 + collective.rank()", setup=True)
print(session.name, *session.pids.values(), flush=True)
"""


@pytest.fixture(autouse=True)
def _own_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path))
    yield
    for entry in registry.entries():  # of a test that failed
        registry.reclaim(entry)


def test_a_kept_group_outlives_its_process_and_is_attached_to_with_its_variables() -> None:
    owner = subprocess.run(
        [sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True, check=True
    )
    name, *words = owner.stdout.split()
    pids = [int(word) for word in words]
    assert all(map(psutil.pid_exists, pids))
    assert registry.find(name).state == "kept"

    with Session.attach() as session:
        assert session.pull("secret", rank=1) == 41
        assert registry.find(name).state == "in use"
        with pytest.raises(EaiError, match="in use"):
            Session.attach(name)
        session.run("total = collective.allreduce_numpy(__import__('numpy').ones(1))[0]")
        assert session.pull("total") == 2
        assert session.where().startswith("ranks 0-1: between cells")
    assert registry.find(name).state == "kept"
    Session.attach(name).down()
    assert not any(map(psutil.pid_exists, pids))
    assert registry.entries() == []


class StopOn(Watcher):
    """Presses Stop when it hears certain words."""

    def __init__(self, words: str) -> None:
        self._words = words

    def progress(self, words: str, *, final: bool = False) -> None:
        """Listen."""
        del final
        if self._words in words:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("words", ["starting the controller", "0 of 2 ranks are up"])
def test_an_interrupted_start_leaves_nothing_behind(words: str) -> None:
    me = psutil.Process()
    threads, children = threading.active_count(), set(me.children(recursive=True))
    session = Session(2, watcher=StopOn(words))
    with pytest.raises(KeyboardInterrupt):
        session.up()
    assert session.state == "down"
    _, alive = psutil.wait_procs(set(me.children(recursive=True)) - children, 20)
    assert not alive
    assert registry.entries() == []
    assert threading.active_count() <= threads + 1


class Failing:
    """An ipyparallel cluster whose controller ends at once."""

    def start_controller(self) -> None: ...

    def _in_thread(self, _work: object) -> None:
        raise RuntimeError("Controller stopped with 1")


def test_a_group_whose_controller_ended_at_once_is_started_again() -> None:
    said: list[str] = []
    clusters: Iterator[Failing | None] = iter([Failing(), None])

    def start(_say: object) -> Any:
        if (cluster := next(clusters)) is not None:
            _start_controller(cluster)
        return "a group"

    found: Any = _twice(start, said.append)
    assert found == "a group"
    assert said == ["starting the controller once more"]


def test_if_it_ends_again_it_is_said() -> None:
    def start(_say: object) -> Any:
        _start_controller(Failing())

    with pytest.raises(EaiError, match=r"did not start .*stopped with 1.*eai-notebook check"):
        _twice(start, lambda _words: None)
