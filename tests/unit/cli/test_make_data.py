"""`eai-notebook make-data criteo`: its files and bad input."""

from __future__ import annotations

from pathlib import Path

import pytest
from expected_errors import raises_code
from typer.testing import CliRunner

from eai_notebook.cli import app
from eai_notebook.cli.make_data import write_criteo
from eai_notebook.errors import EaiError

RUN = CliRunner()


def make(folder: Path, *options: str) -> str:
    result = RUN.invoke(app, ["make-data", "criteo", str(folder), *options])
    if result.exception is not None:
        raise result.exception
    assert result.exit_code == 0
    return result.stdout


def test_files_rows_and_the_best_auc(tmp_path: Path) -> None:
    result = make(tmp_path / "data", "--rows", "800", "--files", "8", "--seed", "3")
    files = sorted((tmp_path / "data").glob("*.tsv"))
    rows = [row for file in files for row in file.read_text().splitlines()]
    assert len(files) == 8
    assert len(rows) == 800
    assert {row.count("\t") for row in rows} == {39}
    assert result.startswith("800 rows in 8 files")
    assert "AUC" in result


def test_same_data_is_not_written_again(tmp_path: Path) -> None:
    make(tmp_path / "data", "--rows", "80", "--files", "8")
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "data").iterdir()}
    make(tmp_path / "data", "--rows", "80", "--files", "8")
    assert before == {file: file.stat().st_mtime_ns for file in (tmp_path / "data").iterdir()}


def test_a_recipe_is_chosen_by_name(tmp_path: Path) -> None:
    make(tmp_path / "data", "--rows", "80", "--files", "8", "--recipe", "rules")
    assert '"recipe": "rules"' in (tmp_path / "data" / "truth.json").read_text()
    with pytest.raises(EaiError, match="choose from logs, rules"):
        make(tmp_path / "other", "--rows", "80", "--files", "8", "--recipe", "ruels")


def test_other_data_needs_force(tmp_path: Path) -> None:
    make(tmp_path / "data", "--rows", "80", "--files", "8")
    with raises_code("folder-not-empty"):
        make(tmp_path / "data", "--rows", "160", "--files", "8")
    assert make(tmp_path / "data", "--rows", "160", "--files", "8", "--force").startswith("160")


def test_force_leaves_strangers_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(EaiError) as refused:
        make(tmp_path, "--rows", "80", "--files", "8", "--force")
    assert refused.value.code == "folder-not-empty"
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


@pytest.mark.parametrize(
    "options",
    [
        ("--rows", "3", "--files", "8"),
        ("--rows", "0", "--files", "0"),
        ("--rows", "8", "--files", "8", "--seed", "-1"),
    ],
)
def test_numbers_without_sense_are_one_line(tmp_path: Path, options: tuple[str, ...]) -> None:
    with pytest.raises(EaiError) as failed:
        make(tmp_path / "data", *options)
    assert "\n" not in str(failed.value)
    assert not (tmp_path / "data").exists()


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("mine")
    with pytest.raises(EaiError, match="data"):
        write_criteo(tmp_path / "data", rows=80, files=8, seed=0)
    assert (tmp_path / "data").read_text() == "mine"


def test_a_folder_that_cannot_be_made() -> None:
    with pytest.raises(EaiError, match="/proc"):
        write_criteo(Path("/proc/data"), rows=80, files=8, seed=0)
