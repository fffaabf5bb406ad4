"""`eai-notebook demo`: from no data to a verdict, and failing cells."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import nbformat
import pytest
from typer.testing import CliRunner

from eai_notebook.cli import app, demo
from eai_notebook.errors import EaiError
from eai_notebook.ledger.run_record import RunRecord, list_runs

if TYPE_CHECKING:
    from pathlib import Path

RUN = CliRunner()
v4 = nbformat.v4


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    # The command sets these for its kernel; here the process lives on.
    for name in ("EAI_RUNS", "EAI_DEMO_DATA"):
        monkeypatch.setenv(name, "")


@pytest.mark.slow
@pytest.mark.ranks
def test_demo_trains_reports_and_leaves_its_results(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    result = RUN.invoke(app, ["demo", "--out", str(out), "--rows", "60000", "-n", "2"])
    assert result.exit_code == 0, result.output + repr(result.exception)
    auc = re.search(r"AUC on held-out rows (0\.\d+); the best possible is (0\.\d+)", result.stdout)
    assert auc is not None, result.stdout
    assert 0.6 < float(auc.group(1)) < float(auc.group(2)) + 0.02
    for part in ("input", "compute", "wait_peer", "transfer", "update", "other"):
        assert re.search(rf"^{part}\b", result.stdout, re.MULTILINE), result.stdout
    info = RunRecord(list_runs(out / "runs")[0]).info
    assert (info.size, info.state) == (2, "done")
    executed = json.loads((out / "01_quickstart.ipynb").read_text())
    assert all(cell.get("execution_count") for cell in executed["cells"] if "outputs" in cell)
    assert "image/svg+xml" in (out / "01_quickstart.html").read_text()


def failing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EaiError:
    """Run the demo on a notebook whose second cell raises."""
    source = tmp_path / "01_quickstart.ipynb"
    cells = [v4.new_code_cell("print('fine')"), v4.new_code_cell("1 / 0")]
    nbformat.write(v4.new_notebook(cells=cells), source)
    monkeypatch.setattr(demo, "find_notebook", lambda: source)
    command = ["demo", "--out", str(tmp_path / "out"), "--rows", "800"]
    result = RUN.invoke(app, command)
    assert result.exit_code == 1
    assert isinstance(result.exception, EaiError)
    return result.exception


def test_a_failing_cell_fails_the_demo_and_keeps_what_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = failing(tmp_path, monkeypatch)
    assert "ZeroDivisionError" in str(error)
    page = (tmp_path / "out" / "01_quickstart.html").read_text()
    assert "ZeroDivisionError" in page
    assert "fine" in page


def test_data_of_an_earlier_demo_is_kept_and_other_data_replaced(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    demo._data(tmp_path / "data", 160)
    made = (tmp_path / "data" / "train-00.tsv").stat().st_mtime_ns
    demo._data(tmp_path / "data", 160)
    assert (tmp_path / "data" / "train-00.tsv").stat().st_mtime_ns == made
    assert "using the 160 rows" in capfd.readouterr().err
    assert demo._data(tmp_path / "data", 320).rows == 320


def test_data_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.txt").write_text("mine")
    with pytest.raises(EaiError) as refused:
        demo._data(tmp_path / "data", 160)
    assert refused.value.code == "folder-not-empty"


@pytest.mark.parametrize("count", ["0", "-3"])
def test_no_ranks_is_one_line(tmp_path: Path, count: str) -> None:
    result = RUN.invoke(app, ["demo", "--out", str(tmp_path), "-n", count])
    assert isinstance(result.exception, EaiError)
    assert result.exception.code == "option-invalid"
    assert count in result.exception.what
    assert list(tmp_path.iterdir()) == []


def test_ranks_are_set_where_the_notebook_starts_them() -> None:
    book = v4.new_notebook(
        cells=[
            v4.new_markdown_cell("then `%eai up -n 2`"),
            v4.new_code_cell("%load_ext eai_notebook\n%eai up -n 2"),
        ]
    )
    demo.set_ranks(book, 4)
    assert book.cells[1].source == "%load_ext eai_notebook\n%eai up -n 4"
    assert book.cells[0].source == "then `%eai up -n 2`"


def test_the_quickstart_has_what_the_demo_sets() -> None:
    book = nbformat.read(demo.find_notebook(), as_version=4)
    before = [cell.source for cell in book.cells]
    demo.set_ranks(book, 77)
    assert sum(a != b.source for a, b in zip(before, book.cells, strict=True)) == 1


@pytest.mark.parametrize(
    ("text", "auc"),
    [
        ("auc: 0.7000\nAUC on the held-out rows 0.8123\n", 0.8123),
        ("nothing", None),
        ("AUC soon\n0.5", None),
    ],
)
def test_auc_is_read_from_what_the_notebook_printed(text: str, auc: float | None) -> None:
    cell = v4.new_code_cell("")
    cell.outputs = [v4.new_output("stream", name="stdout", text=text)]
    assert demo.find_auc(v4.new_notebook(cells=[cell])) == auc


def test_missing_notebook_is_one_line() -> None:
    with pytest.raises(EaiError, match="install eai_notebook's wheel again"):
        demo.find_notebook("99_nowhere.ipynb")
