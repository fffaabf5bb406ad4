"""A notebook as a job of a real Kubernetes: its pod is evicted, writes its checkpoint and starts again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import nbformat
import pytest
from clusters.kube_cluster import wait_until
from clusters.leftovers_of_pods import left_in_cluster
from clusters.training_job import output_of, submitted

from eai_notebook.jobs import start_job

if TYPE_CHECKING:
    from pathlib import Path

    from clusters.kube_cluster import KubeCluster

pytestmark = [pytest.mark.ranks, pytest.mark.slow]

STOPS_ONCE = """
import os, pathlib, time
from eai_notebook.errors import TrainingStopped
folder = pathlib.Path(os.environ["EAI_JOB_FOLDER"])
once = folder / "once"
if not once.exists():
    once.touch()
    print("waiting", flush=True)
    while not (folder / "stop").exists(): time.sleep(0.2)
    raise TrainingStopped("at step 1")
print("the second start")
"""
"""What a training does that is asked to stop, without ranks."""


def test_a_job_whose_pod_is_evicted_is_started_again(
    tmp_path: Path, kube: KubeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    notebook = tmp_path / "stops.ipynb"
    cells = [nbformat.v4.new_code_cell(STOPS_ONCE)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), notebook)
    job = submitted(notebook, {"kube": str(kube.job_pod_file(tmp_path))}, "job")
    wait_until(lambda: "waiting" in output_of(job))
    name = job.identity.partition("/")[2]
    (pod,) = kube.names("pods")
    kube.evict_pod(pod)
    result = start_job.follow(job, print, print)
    assert result.state == "done", output_of(job)
    assert "training-stopped" in output_of(job)
    assert "started again (1)" in output_of(job)
    kube.delete_job(name)
    assert left_in_cluster(kube) == []
