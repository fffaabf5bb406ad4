"""What is wrong with hosts, found without any: with a stand-in for ssh that runs things here."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from waiting import PATIENCE_S, wait_until

from eai_notebook.cluster import preflight, remote_python
from eai_notebook.cluster.host_probe import machine
from eai_notebook.cluster.hostfile import Host
from eai_notebook.cluster.preflight import inspect_hosts, same_machines

if TYPE_CHECKING:
    from pathlib import Path

FAKE_SSH = """#!{python} -S
import os, sys
if "-G" in sys.argv:
    print("hostname 127.0.0.1")
elif "closed" in sys.argv:
    sys.stderr.write("closed: Permission denied (publickey).\\nACME: KEEP OUT\\n")
    sys.exit(255)
else:
    print("Welcome to ACME", flush=True)
    os.execvp("sh", ["sh", "-c", sys.argv[-1]])
"""


@pytest.fixture
def fake_ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every name be this machine, behind a shell that greets."""
    program = tmp_path / "ssh"
    program.write_text(FAKE_SSH.format(python=sys.executable))
    program.chmod(0o700)
    monkeypatch.setenv("EAI_SSH", str(program))
    monkeypatch.setattr(remote_python, "is_here", lambda _address: False)


@pytest.mark.usefixtures("fake_ssh")
def test_two_names_of_one_machine_are_refused_before_anything_starts() -> None:
    survey = inspect_hosts([Host("my-gpu", 1), Host("gpu-two", 2)])
    (failure,) = survey.failures
    assert failure.host == "gpu-two"
    assert "my-gpu" in failure.found
    assert "my-gpu:3" in failure.remedy
    assert survey.placement is None


@pytest.mark.usefixtures("fake_ssh")
def test_a_greeting_of_the_shell_is_no_answer() -> None:
    survey = inspect_hosts([Host("my-gpu", 1)])
    assert survey.failures == []


@pytest.mark.usefixtures("fake_ssh")
def test_a_banner_is_not_the_reason() -> None:
    (failure,) = inspect_hosts([Host("closed", 1)]).failures
    assert "Permission denied" in failure.found
    assert "ACME" not in failure.found


def test_hosts_of_one_kernel_with_networks_of_their_own_are_two() -> None:
    both = [Host("a", 1), Host("b", 1)]
    assert same_machines(both, [{"machine": "boot 1"}, {"machine": "boot 2"}]) == []
    assert len(same_machines(both, [{"machine": "boot 1"}, {"machine": "boot 1"}])) == 1
    assert same_machines(both, [{"machine": None}, {"error": "x"}]) == []
    assert machine() == machine() is not None


def test_a_name_with_an_ipv6_address_only_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def only_6(_name: str, _port: None, family: int, _kind: int) -> list[Any]:
        if family == socket.AF_INET:
            raise socket.gaierror
        return [(0, 0, 0, "", ("::1", 0))]

    monkeypatch.setattr(remote_python, "_real_name", str)
    monkeypatch.setattr(socket, "getaddrinfo", only_6)
    assert remote_python.address_of("six") is None
    (finding,) = preflight._judge(Host("six", 1), {"host": "six"}, None, {}, "127.0.0.1")
    assert "IPv4" in finding.found


PROVE = """
from pathlib import Path
from eai_notebook.horovod_build import verify
from eai_notebook.horovod_build.mpi_finder import Mpi
verify.prove(Mpi(Path({prefix!r}), "MPI", "1"))
"""
RUN_MODULE = """
from eai_notebook.cluster.hostfile import Host
from eai_notebook.cluster.preflight import Placement
from eai_notebook.cluster.allreduce_tuning.mpirun_job import run_module
place = Placement((Host("h", 1),), "127.0.0.1", ("127.0.0.0/8",), 1, False, frozenset({{"h"}}))
run_module(place, {{}}, ["x"], mark="x", what="a sum")
"""


@pytest.mark.parametrize("code", [PROVE, RUN_MODULE], ids=["one machine", "hosts"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_check_that_is_ended_leaves_nothing_behind(
    tmp_path: Path, code: str, number: signal.Signals
) -> None:
    mpirun = tmp_path / "bin" / "mpirun"
    mpirun.parent.mkdir()
    mpirun.write_text(
        f"#!/bin/sh\necho $$ > {tmp_path}/pid.new; mv {tmp_path}/pid.new {tmp_path}/pid\n"
        "sleep 900\n"
    )
    mpirun.chmod(0o700)
    check = subprocess.Popen(
        [sys.executable, "-c", code.format(prefix=str(tmp_path))],
        env={**os.environ, "EAI_MPIRUN": str(mpirun)},
    )
    assert wait_until(lambda: (tmp_path / "pid").exists() or check.poll() is not None)
    assert check.poll() is None
    hung = psutil.Process(json.loads((tmp_path / "pid").read_text()))
    psutil.Process(check.pid).send_signal(number)
    check.wait(PATIENCE_S)
    gone, alive = psutil.wait_procs([hung], PATIENCE_S)
    assert gone
    assert not alive
