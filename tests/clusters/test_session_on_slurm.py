"""The tests of a local session, as a job of Slurm on two nodes: only the place is another."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import unit.session.test_session as local
from clusters.leftovers_of_jobs import left_on_nodes
from unit.session.test_session import listener, said, session  # noqa: F401  fixtures

from eai_notebook.cluster import registry
from eai_notebook.cluster.client import connection_file
from eai_notebook.errors import EaiError

if TYPE_CHECKING:
    from clusters.slurm_cluster import SlurmCluster

    from eai_notebook.session import Session

pytestmark = [pytest.mark.ranks, pytest.mark.slow]


@pytest.fixture(scope="module")
def place(slurm: SlurmCluster) -> dict[str, Any]:
    return {"size": 2, "slurm": True, "nodes": 2, "time": "10"}


@local.every_launcher
def test_on_slurm(same: Any, session: Session, said: local.Listener) -> None:  # noqa: F811
    same(session, said)


def test_an_interrupt_reaches_the_nodes(session: Session, said: local.Listener) -> None:  # noqa: F811
    local.test_an_interrupt_ends_the_cell(session, said, "import time; time.sleep(60)")


def test_each_rank_is_on_its_node(session: Session, slurm: SlurmCluster) -> None:  # noqa: F811
    assert set(session.hosts.values()) <= set(slurm.nodes)
    assert session.hosts[0] != session.hosts[1]


def test_gradients_cross_the_links(session: Session, slurm: SlurmCluster) -> None:  # noqa: F811
    before = slurm.hosts.counters()
    session.run("collective.allreduce_numpy(np.ones(1_000_000, 'float32'))")
    after = slurm.hosts.counters()
    for node in session.hosts.values():
        assert after[node][0] - before[node][0] > 4_000_000


def test_the_status_names_job_nodes_and_time_left(session: Session) -> None:  # noqa: F811
    (line,) = session.launcher.status()
    assert "RUNNING on" in line
    assert " left" in line


def test_no_key_is_in_the_script_an_argument_or_an_environment(
    session: Session,  # noqa: F811
    slurm: SlurmCluster,
) -> None:
    assert session._group is not None
    known = json.loads(connection_file(session._group.entry).read_text())
    keys = [known[name] for name in ("curve_serverkey", "curve_publickey", "curve_secretkey")]
    (job,) = slurm.jobs()
    texts = [slurm.slurm("scontrol", "write", "batch_script", job, "-")]
    for node in slurm.nodes:
        pids = subprocess.run(
            ["ip", "netns", "pids", node], capture_output=True, text=True, check=True
        )
        for pid in pids.stdout.split():
            for what in ("cmdline", "environ"):
                path = Path(f"/proc/{pid}/{what}")
                texts.append(path.read_text(errors="replace") if path.exists() else "")
    assert not [key for key in keys for text in texts if key in text]
    # The ranks have read their file, so it is gone.
    assert not list(Path(os.environ["XDG_CACHE_HOME"]).glob("eai-notebook/jobs/*/connection.json"))


def test_nothing_of_the_notebooks_environment_goes_along_by_chance(
    session: Session,  # noqa: F811
    slurm: SlurmCluster,
) -> None:
    session.run("import os; names = sorted(os.environ)")
    assert "PYTEST_CURRENT_TEST" not in session.pull("names", rank=1)


def test_a_restart_is_another_job_with_the_setup_cells(
    session: Session,  # noqa: F811
    slurm: SlurmCluster,
) -> None:
    before = set(slurm.jobs())
    session.restart()
    assert set(slurm.jobs()).isdisjoint(before)
    session.run("print(eai.size())")


def test_a_rank_that_dies_ends_the_cell_and_is_named(session: Session) -> None:  # noqa: F811
    with pytest.raises(EaiError, match=r"rank 1 on \S+ died of SIGKILL") as raised:
        session.run(
            "import os, signal\n"
            "if collective.rank() == 1: os.kill(os.getpid(), signal.SIGKILL)\n"
            "collective.barrier()"
        )
    assert raised.value.code == "group-lost"
    session.restart()


def test_parameter_servers_train_in_a_job(session: Session, said: local.Listener) -> None:  # noqa: F811
    session.serve(1)
    session.run("from eai_notebook import parameter_servers as servers")
    session.run("print(servers.current().layout.servers)", [0])
    assert "(0,)" in said.everything()


def test_down_leaves_no_job_no_process_no_file(session: Session, slurm: SlurmCluster) -> None:  # noqa: F811
    session.down()
    assert slurm.jobs() == {}
    assert left_on_nodes(slurm) == []
    assert registry.entries() == []
    assert not list(Path(os.environ["XDG_CACHE_HOME"]).glob("eai-notebook/jobs/*"))
