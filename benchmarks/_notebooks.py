"""Worked notebooks on little data, run here and as a job: the losses at the ends of their trainings' epochs."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import nbformat

from eai_notebook.datasets.click_logs import criteo
from eai_notebook.jobs import start_job
from eai_notebook.ledger.run_record import RunRecord, list_runs

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"
NAMES = ("01_quickstart", "02_wide_and_deep", "05_resnet50")
_SEED = "%%distributed --setup\nimport keras\nkeras.utils.set_random_seed(7)"


def settings(folder: Path) -> dict[str, str]:
    """Make the notebooks' data in `folder`; return the variables that name it, and that jobs get them.

    Ranks have one thread everywhere: TensorFlow adds up in another order with another number, and a node of a
    cluster may have more cores than ranks have here.
    """
    criteo(folder / "logs", rows=64_000, files=16)
    criteo(folder / "rules", rows=24_000, files=8, recipe="rules")
    small = {
        "EAI_DEMO_DATA": str(folder / "logs"),
        "EAI_RULES_DATA": str(folder / "rules"),
        "EAI_PICTURES": "2048",
        "EAI_PICTURES_EPOCHS": "2",
        **dict.fromkeys(
            ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"), "1"
        ),
    }
    return {**small, "EAI_FORWARD": ",".join(small)}


def losses(name: str, folder: Path, options: dict[str, Any] | None) -> list[float]:
    """Return the losses of a notebook run in `folder`: here, or as a job with a launcher's `options`.

    The notebooks leave their initial weights to chance; here all ranks get a seed before.
    """
    folder.mkdir()
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    cells = enumerate(notebook.cells)
    (up,) = (n for n, cell in cells if cell.cell_type == "code" and "%eai up" in cell.source)
    notebook.cells.insert(up + 1, nbformat.v4.new_code_cell(_SEED))
    runs = folder / "runs"
    with mock.patch.dict(os.environ, {"EAI_RUNS": str(runs)}):
        start = start_job.Start(notebook, folder / f"{name}.ipynb", size=2, options=options)
        job = start.make_job(folder / "job")
        if start.is_batch:
            start.submit(job)
            result = start_job.follow(job, _show, _show)
        else:
            result = start.run_here(job, _show)
    if result.state != "done":
        raise RuntimeError(f"{name} ended as {result.state}: {result.error}")
    reports = [RunRecord(run).training()[0] for run in sorted(list_runs(runs))]
    return [each.values["loss"] for run in reports for each in run if each.whole]


def largest_difference(one: list[float], other: list[float]) -> float:
    """Return the largest relative difference of two notebooks' losses."""
    if len(one) != len(other) or not one:
        raise RuntimeError(f"{len(one)} losses against {len(other)}")
    return max(abs(a - b) / abs(a) for a, b in zip(one, other, strict=True))


def _show(text: str) -> None:
    sys.stderr.write(text if text.endswith("\n") else f"{text}\n")
