"""`eai-notebook check --slurm` on a real Slurm."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from clusters.leftovers_of_jobs import left_on_nodes

if TYPE_CHECKING:
    from clusters.slurm_cluster import SlurmCluster

pytestmark = [pytest.mark.ranks, pytest.mark.slow]


def checked(*options: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "eai_notebook.cli", "check", "--slurm", "--json", *options],
        capture_output=True,
        text=True,
        check=False,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_two_ranks_of_a_job_sum(slurm: SlurmCluster) -> None:
    slurm.wait_until_idle()
    found = checked()
    states = {each["name"]: (each["state"], each["found"]) for each in found["checks"]}
    assert found["works"], states
    assert states["job"][0] == "ok"
    state, words = states["listening"]
    assert state == "ok", words  # "note" where a program listens on all interfaces
    assert "mpirun on " in words
    assert "15:00" in states["partition debug*"][1]
    assert left_on_nodes(slurm) == []
    assert slurm.jobs() == {}


def test_a_partition_that_there_is_not_is_refused(slurm: SlurmCluster) -> None:
    found = checked("--partition", "nowhere")
    assert not found["works"]
    assert "nowhere" in found["checks"][-1]["found"]
