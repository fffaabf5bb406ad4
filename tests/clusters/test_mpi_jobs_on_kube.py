"""A notebook as an MPIJob, by the real API server with the operator's own definition; the operator does not run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from clusters.kube_cluster import mpi_job_definition
from clusters.training_job import submitted, write_notebook

from eai_notebook.errors import EaiError
from eai_notebook.jobs import start_job

if TYPE_CHECKING:
    from pathlib import Path

    from clusters.kube_cluster import KubeCluster

pytestmark = [pytest.mark.ranks, pytest.mark.slow]


def test_a_notebook_is_an_mpi_job_that_its_operator_would_admit(
    tmp_path: Path, kube: KubeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not mpi_job_definition().exists():
        pytest.skip("the definition of MPIJobs is not here (see tools/kubernetes)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    notebook = write_notebook(tmp_path)
    options: dict[str, Any] = {"kube": str(kube.job_pod_file(tmp_path)), "mpijob": True}
    with pytest.raises(EaiError, match="no MPIJobs") as raised:
        submitted(notebook, options, "refused")
    assert raised.value.code == "kube-refused"
    kube.add_mpi_jobs()
    job = submitted(notebook, options, "admitted")  # a field that is not defined would be refused
    (made,) = kube.mpi_jobs()
    assert made["spec"]["mpiReplicaSpecs"]["Worker"]["replicas"] == 2
    assert start_job.state_words(job) == "waits for its operator"
    start_job.cancel(job.name)
    assert start_job.follow(job, print, print).state == "failed"
    assert kube.mpi_jobs() == []
