"""The notebooks: tidy as committed, and run from top to bottom on little data."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbclient
import nbformat
import pytest

from eai_notebook.io.generate import criteo

if TYPE_CHECKING:
    from eai_notebook.io.generate import Truth

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))


def printed(notebook: Any) -> str:
    return "\n".join(
        str(output.get("text", "") or output.get("data", {}).get("text/plain", ""))
        for cell in notebook.cells
        for output in cell.get("outputs", ())
    )


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_notebook_is_committed_without_outputs(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    assert notebook.cells[0].source.startswith("# ")


@pytest.mark.slow
@pytest.mark.ranks
def test_quickstart_runs_from_top_to_bottom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth: Truth = criteo(tmp_path / "logs", rows=64_000, files=16)
    monkeypatch.setenv("EAI_DEMO_DATA", str(tmp_path / "logs"))
    monkeypatch.setenv("EAI_RUNS", str(tmp_path / "runs"))
    notebook = nbformat.read(NOTEBOOKS[0], as_version=4)
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=240, resources=resources).execute()
    said = printed(notebook)
    assert "rank 0: " in said
    assert "rank 1: " in said
    found = re.search(r"AUC on the held-out rows (\d\.\d+)", said)
    assert found is not None
    assert truth.bayes_auc_test is not None
    assert 0.6 < float(found[1]) < truth.bayes_auc_test
    assert re.search(r"^compute +\d", said, re.MULTILINE)  # the ledger's table
    assert "the group is down" in said
    images = [
        output
        for cell in notebook.cells
        for output in cell.get("outputs", ())
        if "image/png" in output.get("data", {})
    ]
    assert len(images) == 1
