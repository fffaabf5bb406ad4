"""The notebooks: tidy as committed, and run from top to bottom on little data."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbclient
import nbformat
import pytest

from eai_notebook.io.documents import make_documents
from eai_notebook.io.generate import criteo
from eai_notebook.io.queries import make_queries

if TYPE_CHECKING:
    from eai_notebook.io.generate import Truth

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))


def printed(notebook: Any) -> str:
    return "\n".join(
        str(output.get("text", "") or output.get("data", {}).get("text/plain", ""))
        for cell in notebook.cells
        for output in cell.get("outputs", ())
    )


def pictures(notebook: Any) -> int:
    return sum(
        "image/png" in output.get("data", {})
        for cell in notebook.cells
        for output in cell.get("outputs", ())
    )


def run(name: str, place: Path) -> Any:
    """Execute a notebook in `place`, and see that it showed a ledger and took its group down."""
    (path,) = (path for path in NOTEBOOKS if path.stem == name)
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(place)}}
    nbclient.NotebookClient(notebook, timeout=280, resources=resources).execute()
    said = printed(notebook)
    assert re.search(r"^compute +\d", said, re.MULTILINE)
    assert "the group is down" in said
    return notebook


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


@pytest.mark.slow
@pytest.mark.ranks
@pytest.mark.timeout(600)
def test_wide_and_deep_compares_and_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("lightgbm")
    criteo(tmp_path / "rules", rows=24_000, files=8, recipe="rules")
    monkeypatch.setenv("EAI_RULES_DATA", str(tmp_path / "rules"))
    monkeypatch.setenv("EAI_RUNS", str(tmp_path / "runs"))
    notebook = run("02_wide_and_deep", tmp_path)
    said = printed(notebook)
    for name in ("logistic regression", "boosted trees", "wide", "deep", "wide & deep"):
        found = re.search(rf"^{name} +(0\.\d+) ", said, re.MULTILINE)
        assert found is not None
        assert 0.5 < float(found[1]) < 0.9
    assert re.search(r"chance of a click: \d+\.\d%", said)
    assert pictures(notebook) == 1


@pytest.mark.slow
@pytest.mark.ranks
@pytest.mark.timeout(600)
def test_dssm_finds_titles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sklearn")
    make_queries(tmp_path / "queries", titles=60, rows=2400, test_rows=100)
    monkeypatch.setenv("EAI_QUERIES", str(tmp_path / "queries"))
    monkeypatch.setenv("EAI_RUNS", str(tmp_path / "runs"))
    notebook = run("03_dssm", tmp_path)
    found = re.search(
        r"^DSSM +recall@1 \d\.\d+ +recall@10 (\d\.\d+)", printed(notebook), re.MULTILINE
    )
    assert found is not None
    assert float(found[1]) > 0.25  # guessing finds a sixth
    assert pictures(notebook) == 1


@pytest.mark.slow
@pytest.mark.ranks
@pytest.mark.timeout(600)
def test_semantic_hashing_shows_both_codes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sklearn")
    make_documents(tmp_path / "documents", documents=900, topics=5)
    monkeypatch.setenv("EAI_DOCUMENTS", str(tmp_path / "documents"))
    monkeypatch.setenv("EAI_RUNS", str(tmp_path / "runs"))
    notebook = run("04_semantic_hashing", tmp_path)
    said = printed(notebook)
    assert re.search(r"^auto-encoder +radius 4: +\d+\.\d documents, \d+% right", said, re.MULTILINE)
    assert re.search(r"^random planes +radius 4: ", said, re.MULTILINE)
    assert pictures(notebook) == 2


@pytest.mark.slow
@pytest.mark.ranks
@pytest.mark.timeout(600)
def test_resnet_trains_with_the_schedule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EAI_PICTURES", "2048")
    monkeypatch.setenv("EAI_PICTURES_EPOCHS", "3")
    monkeypatch.setenv("EAI_RUNS", str(tmp_path / "runs"))
    notebook = run("05_resnet50", tmp_path)
    found = re.search(r"^top-1 on the held-out pictures (\d\.\d+)", printed(notebook), re.MULTILINE)
    assert found is not None
    assert (
        0 < float(found[1]) < 1
    )  # so few pictures teach little; the full scale is `make notebooks`
    assert pictures(notebook) == 2
