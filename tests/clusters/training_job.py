"""A notebook that trains two ranks, as a job that may be asked to stop; the same for all clusters."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat

from eai_notebook.jobs import start_job

if TYPE_CHECKING:
    from eai_notebook.jobs.job_folder import Job

TRAINING = """%%distributed
import pathlib, time
import keras, numpy as np
import eai_notebook as eai
from eai_notebook.telemetry import stop_request
class Waits(keras.callbacks.Callback):
    "In the second epoch, until the job's first start is asked to stop."
    def on_epoch_begin(self, epoch, logs=None):
        asked = pathlib.Path(folder, "asked")
        while waits and epoch == 1 and not (stop_request.is_asked() or asked.exists()):
            time.sleep(0.05)
        if waits and epoch == 1:
            asked.touch()
rows = np.random.default_rng(eai.rank()).normal(size=(32, 3)).astype("float32")
keras.utils.set_random_seed(3)
model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
model.compile(keras.optimizers.Adam(0.05), "mse")
history = eai.fit(model, rows, rows[:, :1], batch_size=4, epochs=3, shuffle=False, verbose=0,
                  checkpoint=folder, callbacks=[Waits()])
if eai.rank() == 0:
    print("end", history.history["loss"][-1].hex(), [w.tolist() for w in model.get_weights()])
"""
FIRST_EPOCH = "*8.npz"
"""The file of the checkpoint after the first epoch, which has eight steps."""


def write_notebook(folder: Path) -> Path:
    """Write the notebook into `folder`; its parameters are ``folder`` and ``waits``."""
    sources = ["%load_ext eai_notebook\n%eai up -n 1", TRAINING, "%eai down"]
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    setup = "%%distributed --setup\nfolder, waits = 'kept', False"
    cells.insert(1, nbformat.v4.new_code_cell(setup, metadata={"tags": ["parameters"]}))
    nbformat.write(nbformat.v4.new_notebook(cells=cells), folder / "train.ipynb")
    return folder / "train.ipynb"


def submitted(notebook: Path, options: dict[str, Any], out: str, **parameters: Any) -> Job:
    """Submit the notebook on two ranks."""
    start = start_job.Start(
        start_job.read(notebook), notebook, size=2, options=options, parameters=parameters
    )
    job = start.make_job(Path(out))
    start.submit(job)
    return job


def end_of(job: Job) -> str:
    """Follow a job to its end; return the line with its last loss and weights."""
    result = start_job.follow(job, print, print)
    assert result.state == "done", (result, output_of(job))
    return next(line for line in output_of(job).splitlines() if " end 0x" in line)


def output_of(job: Job) -> str:
    """Return what the job has printed."""
    file = job.folder / "output.log"
    return file.read_text() if file.exists() else ""
