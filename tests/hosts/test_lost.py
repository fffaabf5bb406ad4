"""What goes wrong on other hosts is named: a rank dies, a host is lost, the notebook dies."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import psutil
import pytest
from hosts.cluster import Hosts, pids_on
from waiting import PATIENCE_S

from eai_notebook.errors import EaiError
from eai_notebook.session import Session

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.drill, pytest.mark.ranks, pytest.mark.slow]


@pytest.fixture
def session(hosts: Hosts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Session]:
    monkeypatch.setenv("EAI_RUNS", str(tmp_path / "runs"))
    with Session(hosts=",".join(hosts.names)) as session:
        session.run("from eai_notebook import collective; import numpy as np")
        yield session


def left_on(hosts: Hosts, patience: float) -> list[str]:
    """Return what runs on the hosts beside sshd, once `patience` seconds have passed or nothing does."""
    until = time.monotonic() + patience
    while left := [each for name in hosts.names for each in engines_on(name)]:
        if time.monotonic() > until:
            break
        time.sleep(0.1)
    return left


def engines_on(host: str) -> list[str]:
    """Return the processes on `host` that are no part of its sshd, in words."""
    found = []
    for pid in pids_on(host):
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            line = " ".join(process.cmdline())
            if "sshd" not in line + process.name():
                found.append(f"{host}: {pid} ({process.status()}, {process.ppid()}) {line}")
    return found


def test_a_rank_that_dies_is_named_with_its_host(session: Session, hosts: Hosts) -> None:
    with pytest.raises(EaiError, match=f"rank 1 on {hosts.names[1]} died of SIGKILL"):
        session.run(
            "import os, signal\n"
            "if collective.rank() == 1: os.kill(os.getpid(), signal.SIGKILL)\n"
            "collective.barrier()"
        )
    assert not session.is_up
    assert left_on(hosts, PATIENCE_S) == []


def test_a_host_that_is_lost_is_named(session: Session, hosts: Hosts) -> None:
    away = hosts.names[1]
    hosts.cut(away)
    try:
        with pytest.raises(EaiError, match=f"the host {away} was lost"):
            session.run("collective.barrier()")
    finally:
        hosts.mend(away)
    assert not session.is_up
    assert left_on(hosts, PATIENCE_S) == []


NOTEBOOK = """
import sys, time
from eai_notebook import Session
session = Session(hosts=sys.argv[1])
session.up()
session.run("pass")
print("up", flush=True)
time.sleep(600)
"""


def test_ranks_leave_when_the_notebook_dies(hosts: Hosts, tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", NOTEBOOK, ",".join(hosts.names)],
        env={**os.environ, "EAI_RUNS": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
    ) as notebook:
        assert notebook.stdout is not None
        assert notebook.stdout.readline() == "up\n"
        assert engines_on(hosts.names[0])
        notebook.send_signal(signal.SIGKILL)
    assert left_on(hosts, PATIENCE_S) == []
