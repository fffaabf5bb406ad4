"""The notebooks: tidy as committed, and run from top to bottom on little data."""

from __future__ import annotations

import ast
import importlib.util
import math
import re
from typing import TYPE_CHECKING, Any

import nbformat
import pytest
from kernel_sockets import execute_notebook
from paths import REPOSITORY
from waiting import PATIENCE_S

from eai_notebook.datasets.click_logs import criteo
from eai_notebook.datasets.documents import make_documents
from eai_notebook.datasets.query_logs import make_queries

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from eai_notebook.datasets.click_logs import Truth

NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))


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
    execute_notebook(notebook, place, timeout=PATIENCE_S)
    said = printed(notebook)
    assert re.search(r"^compute +\d", said, re.MULTILINE)
    assert "the group is down" in said
    return notebook


def imports(source: str) -> Iterator[tuple[str, str]]:
    """Yield the modules of the package that a program imports from, and the names."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("eai_notebook"):
            yield from ((str(node.module), alias.name) for alias in node.names)


def test_what_notebooks_and_benchmarks_import_is_there() -> None:
    programs = [path.read_text() for path in (REPOSITORY / "benchmarks").glob("*.py")]
    for path in NOTEBOOKS:
        cells = [c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
        programs += [re.sub(r"^\s*[%!].*", "", cell, flags=re.MULTILINE) for cell in cells]
    found = sorted({each for program in programs for each in imports(program)})
    assert len(found) > 50

    def exists(module: str, name: str) -> bool:
        found = importlib.import_module(module)
        return hasattr(found, name) or (
            hasattr(found, "__path__") and importlib.util.find_spec(f"{module}.{name}") is not None
        )

    assert [each for each in found if not exists(*each)] == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_notebook_is_committed_without_outputs(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    assert notebook.cells[0].source.startswith("# ")


def test_figures_have_one_style_with_the_colours_of_runs_in_the_panel() -> None:
    import matplotlib.pyplot as plt

    from eai_notebook.display.palette import OVERLAY

    style = "eai_notebook.display.figures"
    with plt.style.context(style):
        colours = [each["color"] for each in plt.rcParams["axes.prop_cycle"]]
    assert tuple(colours) == OVERLAY
    drawn = [text for path in NOTEBOOKS if "pyplot" in (text := path.read_text())]
    assert len(drawn) > 5
    assert all(style in text and "tab:" not in text for text in drawn)


@pytest.mark.notebook
@pytest.mark.slow
@pytest.mark.ranks
def test_quickstart_runs_from_top_to_bottom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth: Truth = criteo(tmp_path / "logs", rows=64_000, files=16)
    monkeypatch.setenv("EAI_DEMO_DATA", str(tmp_path / "logs"))
    monkeypatch.setenv("EAI_RUNS", str(tmp_path / "runs"))
    notebook = nbformat.read(NOTEBOOKS[0], as_version=4)
    execute_notebook(notebook, tmp_path, timeout=PATIENCE_S)
    said = printed(notebook)
    assert "rank 0: " in said
    assert "rank 1: " in said
    found = re.search(r"AUC on the held-out rows (\d\.\d+)", said)
    assert found is not None
    assert truth.bayes_auc_test is not None
    assert 0.6 < float(found[1]) < truth.bayes_auc_test
    assert re.search(r"^compute +\d", said, re.MULTILINE)  # the ledger's table
    assert "the group is down" in said
    # Was it quicker than one rank? As the report says.
    measured = re.search(r"^(\d+\.\d\d) times as quick: (\d+)% of ideal", said, re.MULTILINE)
    assert measured is not None
    reported = re.search(r"(\d[\d.]*)x one rank \((\d+) % of ideal\)", said)
    assert reported is not None
    assert float(reported[1]) == pytest.approx(float(measured[1]), abs=0.01)
    assert reported[2] == measured[2]
    images = [
        output
        for cell in notebook.cells
        for output in cell.get("outputs", ())
        if "image/png" in output.get("data", {})
    ]
    assert len(images) == 1


@pytest.mark.notebook
@pytest.mark.slow
@pytest.mark.ranks
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


@pytest.mark.notebook
@pytest.mark.slow
@pytest.mark.ranks
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


@pytest.mark.notebook
@pytest.mark.slow
@pytest.mark.ranks
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


@pytest.mark.notebook
@pytest.mark.slow
@pytest.mark.ranks
def test_resnet_trains_with_the_schedule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EAI_PICTURES", "4096")
    monkeypatch.setenv("EAI_PICTURES_EPOCHS", "4")
    monkeypatch.setenv("EAI_RUNS", str(tmp_path / "runs"))
    notebook = run("05_resnet50", tmp_path)
    said = printed(notebook)
    found = re.search(r"^top-1 on the held-out pictures (\d\.\d+)", said, re.MULTILINE)
    assert found is not None
    assert float(found[1]) > 0.25  # guessing finds a tenth
    assert re.search(r"^without warm-up +0\.\d+", said, re.MULTILINE)
    assert pictures(notebook) == 2


@pytest.mark.notebook
@pytest.mark.slow
@pytest.mark.ranks
def test_image_models_send_four_bytes_a_parameter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # At full scale all four of 224 x 224 are trained: `make notebooks`, benchmarks/image_bytes.py.
    monkeypatch.setenv("EAI_IMAGE_MODELS", "vgg16,small_resnet")
    monkeypatch.setenv("EAI_IMAGE_SIDE", "32")
    monkeypatch.setenv("EAI_IMAGE_CLASSES", "10")
    monkeypatch.setenv("EAI_IMAGE_STEPS", "2")
    monkeypatch.setenv("EAI_RUNS", str(tmp_path / "runs"))
    notebook = run("06_image_models", tmp_path)
    line = r"^(\w+): ([\d,]+) bytes a step, 4 x parameters = ([\d,]+)$"
    found = re.findall(line, printed(notebook), re.MULTILINE)
    assert found == [
        ("vgg16", "134,552,872", "134,552,872"),
        ("small_resnet", "312,168", "312,168"),
    ]
    assert pictures(notebook) == 1


@pytest.mark.notebook
@pytest.mark.slow
@pytest.mark.ranks
def test_the_ladder_is_climbed_rung_by_rung(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    criteo(tmp_path / "logs", rows=16_000, files=8)
    monkeypatch.setenv("EAI_DEMO_DATA", str(tmp_path / "logs"))
    monkeypatch.setenv("EAI_LADDER_STEPS", "4")
    monkeypatch.setenv("EAI_RUNS", str(tmp_path / "runs"))
    notebook = run("07_ladder", tmp_path)
    said = printed(notebook)
    rungs = ("+ readers", "+ ring", "+ fp16", "+ blocks", "+ int8, rows once")
    gains = [
        re.search(rf"^{re.escape(name)} +\d+\.\d ms +x +(\d+\.\d\d) ", said, re.MULTILINE)
        for name in (*rungs, "all rungs", "control: the ring again")
    ]
    ratios = [float(found[1]) for found in gains if found is not None]
    assert len(ratios) == len(gains)
    assert math.prod(ratios[:5]) == pytest.approx(ratios[5], rel=0.1)
    losses = [float(each) for each in re.findall(r"^\[0\] loss (\d\.\d+)$", said, re.MULTILINE)]
    assert len(losses) == 10  # servers twice, the ring, fp16 and its blocks, int8, the control
    assert max(losses) < 0.8
    assert pictures(notebook) == 1


@pytest.mark.notebook
@pytest.mark.slow
@pytest.mark.ranks
def test_the_loss_curve_stays_where_ranks_go_and_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EAI_RUNS", str(tmp_path / "runs"))
    notebook = run("08_elastic", tmp_path)
    said = printed(notebook)
    assert "rank 2 is gone at step 40" in said
    assert re.search(r"rank \d joins at step 72", said)
    found = re.search(
        r"^120 steps, largest relative difference of the losses (\S+)$", said, re.MULTILINE
    )
    assert found is not None
    assert float(found[1]) < 1e-5
    assert pictures(notebook) == 1
