"""Fixtures: a real Slurm and a real Kubernetes, or a line that says why there is none.

`tools/clusters_short.py` says in ``EAI_CLUSTERS`` which of them there are, and in ``EAI_CLUSTERS_UNTIL`` until when (in
seconds since 1970) tests may begin.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest
from clusters import kube_cluster
from clusters.slurm_cluster import SlurmCluster, why_not

if TYPE_CHECKING:
    from collections.abc import Iterator

collect_ignore = ["programs"]  # which jobs run: a search for doctests would start them here


def pytest_runtest_setup() -> None:
    if time.time() > float(os.environ.get("EAI_CLUSTERS_UNTIL", "inf")):
        pytest.skip("the time for tests with clusters is over")


@pytest.fixture(scope="session", autouse=True)
def own_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """List groups and jobs in a folder of the tests: others of this machine are none of theirs."""
    folder = tmp_path_factory.mktemp("registry")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_RUNTIME_DIR", str(folder / "runtime"))
        patch.setenv("XDG_STATE_HOME", str(folder / "state"))
        yield


def _is_left_out(name: str) -> bool:
    asked = os.environ.get("EAI_CLUSTERS")
    return asked is not None and name not in asked.split(",")


@pytest.fixture(scope="session")
def slurm() -> Iterator[SlurmCluster]:
    """Give three nodes with links of their own; Slurm's commands of this process reach them."""
    reason = "EAI_CLUSTERS leaves Slurm out" if _is_left_out("slurm") else why_not()
    if reason:
        pytest.skip(reason)
    inside = [name for name in os.environ if name.startswith(("SLURM_", "SBATCH_"))]
    with SlurmCluster(3, cores=4) as made, pytest.MonkeyPatch.context() as patch:
        for name in inside:
            patch.delenv(name)
        for name, value in made.environment().items():
            patch.setenv(name, value)
        yield made


@pytest.fixture(scope="session")
def kube() -> Iterator[kube_cluster.KubeCluster]:
    """Give a Kubernetes of two nodes, whose user has the documented rights in one namespace."""
    left_out = _is_left_out("kube")
    reason = "EAI_CLUSTERS leaves Kubernetes out" if left_out else kube_cluster.why_not()
    if reason:
        pytest.skip(reason)
    with kube_cluster.KubeCluster(2) as made, pytest.MonkeyPatch.context() as patch:
        patch.setenv("KUBECONFIG", str(made.kubeconfig))
        yield made
