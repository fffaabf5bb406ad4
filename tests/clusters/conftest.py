"""Fixtures: a real Slurm and a real Kubernetes, or a line that says why there is none."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from clusters import kube_cluster
from clusters.slurm_cluster import SlurmCluster, why_not

if TYPE_CHECKING:
    from collections.abc import Iterator

collect_ignore = ["programs"]  # which jobs run: a search for doctests would start them here


@pytest.fixture(scope="session")
def slurm() -> Iterator[SlurmCluster]:
    """Give three nodes with links of their own; Slurm's commands of this process reach them."""
    reason = why_not()
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
    reason = kube_cluster.why_not()
    if reason:
        pytest.skip(reason)
    with kube_cluster.KubeCluster(2) as made, pytest.MonkeyPatch.context() as patch:
        patch.setenv("KUBECONFIG", str(made.kubeconfig))
        yield made
