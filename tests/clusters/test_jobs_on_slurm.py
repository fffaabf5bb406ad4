"""A notebook as one job of a real Slurm: run, cancelled, stopped before its limit and queued again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat
import pytest
from clusters.leftovers_of_jobs import left_on_nodes
from clusters.slurm_cluster import wait_until

from eai_notebook.jobs import start_job

if TYPE_CHECKING:
    from clusters.slurm_cluster import SlurmCluster

    from eai_notebook.jobs.job_folder import Job

pytestmark = [pytest.mark.ranks, pytest.mark.slow]

TRAINING = """%%distributed
import time
import keras, numpy as np
import eai_notebook as eai
class Slow(keras.callbacks.Callback):
    def on_train_batch_begin(self, batch, logs=None):
        time.sleep(pause)
rows = np.random.default_rng(eai.rank()).normal(size=(32, 3)).astype("float32")
keras.utils.set_random_seed(3)
model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
model.compile(keras.optimizers.Adam(0.05), "mse")
history = eai.fit(model, rows, rows[:, :1], batch_size=4, epochs=3, shuffle=False, verbose=0,
                  checkpoint=folder, callbacks=[Slow()])
if eai.rank() == 0:
    print("end", history.history["loss"][-1].hex(), [w.tolist() for w in model.get_weights()])
"""


@pytest.fixture
def notebook(tmp_path: Path, slurm: SlurmCluster, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    tagged = {"tags": ["parameters"]}
    sources = ["%load_ext eai_notebook\n%eai up -n 1", TRAINING, "%eai down"]
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    setup = "%%distributed --setup\nfolder, pause = 'kept', 0.0"
    cells.insert(1, nbformat.v4.new_code_cell(setup, metadata=tagged))
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "train.ipynb")
    slurm.wait_until_idle()
    return tmp_path / "train.ipynb"


def submitted(notebook: Path, out: str, **parameters: Any) -> Job:
    start = start_job.Start(
        start_job.read(notebook),
        notebook,
        size=2,
        options={"slurm": True, "nodes": 2, "time": "20"},
        parameters=parameters,
    )
    job = start.make_job(Path(out))
    start.submit(job)
    return job


def followed(job: Job) -> str:
    result = start_job.follow(job, print, print)
    output = (job.folder / "output.log").read_text()
    assert result.state == "done", output
    return next(line for line in output.splitlines() if " end 0x" in line)


def test_a_job_that_is_queued_again_ends_as_one_that_was_not(
    notebook: Path, slurm: SlurmCluster
) -> None:
    whole = followed(submitted(notebook, "whole", folder="kept-1"))
    job = submitted(notebook, "again", folder="kept-2", pause=0.5)
    wait_until(lambda: list(Path("kept-2").glob("*8.npz")), 120)  # the first epoch's end
    # What Slurm does before the time limit; a wait for that would take minutes.
    slurm.slurm("scancel", "--signal=USR1", "--batch", job.identity)
    assert followed(job) == whole
    output = (job.folder / "output.log").read_text()
    assert "training-stopped" in output
    assert "started again" in output
    assert "resuming from epoch 2" in output
    assert nbformat.read(job.folder / "train.ipynb", 4).cells[-1].execution_count
    assert left_on_nodes(slurm) == []


def test_a_cancelled_job_leaves_its_notebook_and_nothing_else(
    notebook: Path, slurm: SlurmCluster
) -> None:
    job = submitted(notebook, "cancelled", pause=60.0)
    wait_until(lambda: "%%distributed" in _text(job), 120)
    start_job.cancel(job.name)
    result = start_job.follow(job, print, print)
    assert (result.state, result.code) != ("done", 0)
    assert (job.folder / "train.ipynb").exists()
    wait_until(lambda: not slurm.jobs())
    assert left_on_nodes(slurm) == []


def _text(job: Job) -> str:
    file = job.folder / "output.log"
    return file.read_text() if file.exists() else ""
