"""A notebook as one job of a real Slurm: run, cancelled, stopped before its limit and queued again."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat
import pytest
from clusters.leftovers_of_jobs import left_on_nodes
from clusters.slurm_cluster import wait_until
from clusters.training_job import FIRST_EPOCH, end_of, output_of, submitted, write_notebook

from eai_notebook.jobs import headless, start_job
from eai_notebook.jobs.job_folder import Job

if TYPE_CHECKING:
    from clusters.slurm_cluster import SlurmCluster

pytestmark = [pytest.mark.ranks, pytest.mark.slow]

IN_A_JOB: dict[str, Any] = {"slurm": True, "nodes": 2, "time": "20"}


@pytest.fixture
def notebook(tmp_path: Path, slurm: SlurmCluster, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    slurm.wait_until_idle()
    return write_notebook(tmp_path)


def test_a_job_that_is_queued_again_ends_as_one_that_was_not(
    notebook: Path, slurm: SlurmCluster
) -> None:
    whole = end_of(submitted(notebook, IN_A_JOB, "whole", folder="kept-1"))
    job = submitted(notebook, IN_A_JOB, "again", folder="kept-2", waits=True)
    wait_until(lambda: list(Path("kept-2").glob(FIRST_EPOCH)), 120)  # the first epoch's end
    # What Slurm does before the time limit; a wait for that would take minutes.
    slurm.slurm("scancel", "--signal=USR1", "--batch", job.identity)
    assert end_of(job) == whole
    output = output_of(job)
    assert "training-stopped" in output
    assert "started again" in output
    # Epoch 2 from its begin, or what follows it: the ranks agree to stop about once a second.
    assert re.search("resuming from epoch [23], step 0", output)
    assert nbformat.read(job.folder / "train.ipynb", 4).cells[-1].execution_count
    assert left_on_nodes(slurm) == []


def test_a_cancelled_job_leaves_its_notebook_and_nothing_else(
    notebook: Path, slurm: SlurmCluster
) -> None:
    job = submitted(notebook, IN_A_JOB, "cancelled", waits=True)
    wait_until(lambda: "%%distributed" in output_of(job), 120)
    start_job.cancel(job.name)
    result = start_job.follow(job, print, print)
    assert (result.state, result.code) != ("done", 0)
    assert (job.folder / "train.ipynb").exists()
    wait_until(lambda: not slurm.jobs())
    assert left_on_nodes(slurm) == []


def test_cells_of_a_session_are_submitted_as_a_job(
    tmp_path: Path, slurm: SlurmCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    sources = [
        "%load_ext eai_notebook\n%eai up -n 1",
        "%%distributed --setup\nimport socket\nimport eai_notebook as eai",
        "%%distributed\nprint('size', eai.size(), 'on', socket.gethostname())",
        "%eai submit -n 2 --slurm --nodes 2 --time 10 --out job",
        "%eai down",
    ]
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    slurm.wait_until_idle()
    headless.execute(
        nbformat.v4.new_notebook(cells=cells),
        tmp_path,
        headless.Listener(lambda *_: None, print, lambda _: None),
        cell_seconds=120,
    )
    job = Job.read(tmp_path / "job")
    result = start_job.follow(job, print, print)
    assert result.state == "done", output_of(job)
    shown = re.findall(r"^\[[01]\] size 2 on (\S+)", output_of(job), re.MULTILINE)
    assert set(shown) <= set(slurm.nodes)
    assert len(set(shown)) == 2
    assert left_on_nodes(slurm) == []
