"""Notebooks executed without a browser: progress, failures, the HTML copy."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import nbformat
import psutil
import pytest

from eai_notebook.errors import EaiError
from eai_notebook.jobs import headless

if TYPE_CHECKING:
    from pathlib import Path

v4 = nbformat.v4


class Ear:
    def __init__(self) -> None:
        self.cells: list[tuple[int, int, str]] = []
        self.text = ""
        self.ended = 0

    def listener(self) -> headless.Listener:
        return headless.Listener(
            cell=lambda *cell: self.cells.append(cell),
            text=self.add_message,
            done=lambda _seconds: self.end(),
        )

    def add_message(self, text: str) -> None:
        self.text += text

    def end(self) -> None:
        self.ended += 1


def notebook(*sources: str) -> nbformat.NotebookNode:
    return v4.new_notebook(cells=[v4.new_code_cell(source) for source in sources])


def test_cells_are_announced_heard_and_kept(tmp_path: Path) -> None:
    book = notebook("print('one', flush=True)", "import os\nprint(os.getcwd())\n6 * 7")
    book.cells.insert(1, v4.new_markdown_cell("# Title\n\n## Where we are\n\ntext"))
    ear = Ear()
    headless.execute(book, tmp_path, ear.listener())
    assert ear.cells == [(1, 2, "print('one', flush=True)"), (2, 2, "Where we are")]
    assert ear.text == f"one\n{tmp_path}\n"
    assert ear.ended == 2
    assert book.cells[2].outputs[-1].data["text/plain"] == "42"


def test_the_kernel_is_this_python_and_leaves(tmp_path: Path) -> None:
    book = notebook("import os, sys; print(sys.executable, os.getpid())")
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "other"}
    ear = Ear()
    headless.execute(book, tmp_path, ear.listener())
    program, pid = ear.text.split()
    assert program == sys.executable
    assert not psutil.pid_exists(int(pid))


def test_a_failing_cell_ends_it_with_its_error(tmp_path: Path) -> None:
    book = notebook("print('before')", "open('gone.tsv')", "print('never')")
    ear = Ear()
    with pytest.raises(EaiError, match=r"FileNotFoundError.*gone\.tsv") as failed:
        headless.execute(book, tmp_path, ear.listener())
    assert "\n" not in str(failed.value)
    assert "before" in ear.text
    assert "gone.tsv" in ear.text
    assert "never" not in ear.text
    assert book.cells[1].outputs[0].ename == "FileNotFoundError"


def test_html_twin_takes_html_before_the_widget_and_no_server(tmp_path: Path) -> None:
    book = notebook("1")
    book.metadata["widgets"] = {"application/vnd.jupyter.widget-state+json": {"state": {}}}
    book.cells[0].outputs = [
        v4.new_output(
            "display_data",
            {
                "application/vnd.jupyter.widget-view+json": {"model_id": "x"},
                "text/html": "<b>static twin</b>",
                "text/plain": "plain",
            },
        )
    ]
    headless.write_html(book, tmp_path / "twin.html")
    page = (tmp_path / "twin.html").read_text()
    assert "<b>static twin</b>" in page
    assert 'src="http' not in page
    assert "cdn" not in page.lower()
    assert "unpkg" not in page
    assert "widgets" in book.metadata


@pytest.mark.parametrize(
    ("source", "title"),
    [("# why\n%eai up -n 2", "%eai up -n 2"), ("\n\nx = 1\ny = 2", "x = 1"), ("", "")],
)
def test_a_cell_without_heading_is_called_by_its_first_line(source: str, title: str) -> None:
    assert headless.title_of(notebook(source), 0) == title
