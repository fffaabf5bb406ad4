"""A notebook as a job of a real Kubernetes: a pod that starts pods, deleted in the middle of a training."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from clusters.faulty_registry import RESET, FaultyRegistry
from clusters.kube_cluster import wait_until
from clusters.leftovers_of_pods import left_in_cluster
from clusters.training_job import FIRST_EPOCH, end_of, output_of, submitted, write_notebook

from eai_notebook.jobs import start_job

if TYPE_CHECKING:
    from clusters.kube_cluster import KubeCluster

pytestmark = [pytest.mark.ranks, pytest.mark.slow]


def test_a_job_whose_pod_is_deleted_ends_as_one_that_was_not(
    tmp_path: Path, kube: KubeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    notebook = write_notebook(tmp_path)
    whole = end_of(submitted(notebook, {}, "whole", folder="kept-1"))  # two ranks on this machine
    job = submitted(
        notebook,
        {"kube": str(kube.job_pod_file(tmp_path))},
        "again",
        folder="kept-2",
        waits=True,
    )
    name = job.identity.partition("/")[2]
    wait_until(lambda: list(Path("kept-2").glob(FIRST_EPOCH)))
    (pod,) = (pod for pod in kube.names("pods") if pod.startswith(name))
    kube.delete_pod(pod)
    assert end_of(job) == whole
    assert "training-stopped" in output_of(job)
    assert "started again (1)" in output_of(job)
    assert re.search("resuming from epoch [23], step 0", output_of(job))
    kube.delete_job(name)
    assert left_in_cluster(kube) == []


def test_a_job_whose_image_cannot_be_pulled_is_cancelled_with_a_remedy(
    tmp_path: Path, kube: KubeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with FaultyRegistry(RESET) as registry:
        pulled = {"image": registry.image, "imagePullPolicy": "IfNotPresent"}
        options = {"kube": str(kube.job_pod_file(tmp_path, container=pulled)), "pod_wait": 2.0}
        job = submitted(write_notebook(tmp_path), options, "never")
        result = start_job.follow(job, print, print)
    assert (result.state, result.code) == ("failed", 1)
    assert "cannot start: " in result.error
    assert "does not reach the registry" in result.error
    assert left_in_cluster(kube) == []
