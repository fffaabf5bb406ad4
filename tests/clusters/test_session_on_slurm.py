"""A session as a job of Slurm on two nodes: the suite of all clusters, and what is of Slurm alone."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from clusters.leftovers_of_jobs import left_on_nodes
from clusters.session_suite import *  # noqa: F403  tests and fixtures

from eai_notebook.cluster import registry

if TYPE_CHECKING:
    from clusters.slurm_cluster import SlurmCluster

    from eai_notebook.session import Session

pytestmark = [pytest.mark.ranks, pytest.mark.slow]


@pytest.fixture(scope="module")
def cluster(slurm: SlurmCluster) -> SlurmCluster:
    return slurm


@pytest.fixture(scope="module")
def place(slurm: SlurmCluster) -> dict[str, Any]:
    return {"size": 2, "slurm": True, "nodes": 2, "time": "10"}


def test_ranks_are_on_nodes_and_gradients_cross_their_links(
    session: Session,
    slurm: SlurmCluster,
) -> None:
    assert set(session.hosts.values()) <= set(slurm.nodes)
    before = slurm.hosts.counters()
    session.run("collective.allreduce_numpy(np.ones(1_000_000, 'float32'))")
    after = slurm.hosts.counters()
    for node in session.hosts.values():
        assert after[node][0] - before[node][0] > 4_000_000


def test_the_status_names_job_nodes_and_time_left(session: Session) -> None:
    (line,) = session.launcher.status()
    assert "RUNNING on" in line
    assert " left" in line


def test_the_file_of_keys_is_gone_once_the_ranks_have_read_it(session: Session) -> None:
    session.run("pass")
    assert not list(Path(os.environ["XDG_CACHE_HOME"]).glob("eai-notebook/jobs/*/connection.json"))


def test_down_leaves_no_job_no_process_no_file(session: Session, slurm: SlurmCluster) -> None:
    session.down()
    assert slurm.jobs() == {}
    assert left_on_nodes(slurm) == []
    assert registry.entries() == []
    assert not list(Path(os.environ["XDG_CACHE_HOME"]).glob("eai-notebook/jobs/*"))
