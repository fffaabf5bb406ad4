"""A session in pods of Kubernetes on two nodes: the suite of all clusters, and what is of Kubernetes alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from clusters.leftovers_of_pods import left_in_cluster
from clusters.session_suite import *  # noqa: F403  tests and fixtures

if TYPE_CHECKING:
    from clusters.kube_cluster import KubeCluster

    from eai_notebook.session import Session

pytestmark = [pytest.mark.ranks, pytest.mark.slow]


@pytest.fixture(scope="module")
def cluster(kube: KubeCluster) -> KubeCluster:
    return kube


@pytest.fixture(scope="module")
def place(kube: KubeCluster) -> dict[str, Any]:
    # The scheduler puts the pods of a job on different nodes by itself; here it has to.
    apart = {
        "labelSelector": {"matchLabels": {"app.kubernetes.io/managed-by": "eai-notebook"}},
        "topologyKey": "kubernetes.io/hostname",
    }
    affinity = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [apart]}}
    return {"size": 2, "kube": str(kube.pod_file(spec={"affinity": affinity}))}


def test_the_status_names_the_job_and_its_pods_on_both_nodes(
    session: Session,
    kube: KubeCluster,
) -> None:
    job, *pods = session.launcher.status()
    assert kube.jobs() == [job.split()[-1]]
    assert [line.split(": ")[1] for line in pods] == ["Running", "Running"]
    found = kube.api("GET", "/api/v1/namespaces/ranks/pods")["items"]
    assert {pod["spec"]["nodeName"] for pod in found} == set(kube.nodes)


def test_down_leaves_no_job_no_pod_no_secret(session: Session, kube: KubeCluster) -> None:
    session.down()
    assert left_in_cluster(kube) == []
