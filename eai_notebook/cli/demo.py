"""`eai-notebook demo`: run the quickstart from data to verdict without a browser."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import eai_notebook
from eai_notebook.cli.make_data import write_criteo
from eai_notebook.errors import EaiError
from eai_notebook.terminal import console

if TYPE_CHECKING:
    from nbformat import NotebookNode

    from eai_notebook.datasets.click_logs import Truth

NOTEBOOK = "01_quickstart.ipynb"
FILES = 16
SEED = 0


def demo(
    out: Annotated[Path, typer.Option(help="Folder for data, run record and results.")] = Path(
        "build/demo"
    ),
    rows: Annotated[int, typer.Option(help="Rows of click logs to train on.")] = 400_000,
    ranks: Annotated[int, typer.Option("-n", "--ranks", help="Ranks to train on.")] = 2,
) -> None:
    """Generate data, run the quickstart notebook on it without a browser, and print the result.

    The output folder then holds the executed notebook, an HTML copy, the data (kept for the next
    run) and the run record. The exit code is 1 if a cell fails.
    """
    if ranks < 1:
        raise EaiError(
            f"invalid number of ranks: {ranks}", "use 1 or more: -n 2", code="option-invalid"
        )
    begin = time.monotonic()
    folder = out.resolve()
    truth = _data(folder / "data", rows)
    notebook = _run(find_notebook(), folder, ranks=ranks)
    _print_result(notebook, truth, folder, time.monotonic() - begin)


def find_notebook(name: str = NOTEBOOK) -> Path:
    """Return a notebook of this package: in a clone from notebooks/, else from the wheel.

    Raises:
        EaiError: It is in neither.
    """
    package = Path(eai_notebook.__file__).parent
    for folder in (package.parent / "notebooks", package / "notebooks"):
        if (folder / name).is_file():
            return folder / name
    raise EaiError(
        f"{name} is not part of this installation",
        "install eai_notebook's wheel again",
        code="notebook-missing",
    )


def _data(folder: Path, rows: int) -> Truth:
    """Generate the data set, or keep one that an earlier demo generated with the same options."""
    from eai_notebook.datasets.click_logs import TRUTH, Truth

    kept = Truth.load(folder) if (folder / TRUTH).is_file() else None
    same = kept is not None and (kept.rows, kept.files, kept.seed) == (rows, FILES, SEED)
    if same:
        console.note(f"using the {rows:,} rows in {folder}")
    return write_criteo(folder, rows=rows, files=FILES, seed=SEED, force=not same)


def _run(source: Path, folder: Path, *, ranks: int) -> NotebookNode:
    """Execute the notebook in `folder`; write it and its HTML copy there, also after a failure."""
    from eai_notebook.jobs import headless

    notebook = headless.read_notebook(source)
    set_ranks(notebook, ranks)
    # The kernel inherits both, and the ranks from the kernel.
    os.environ["EAI_DEMO_DATA"] = str(folder / "data")
    os.environ["EAI_RUNS"] = str(folder / "runs")
    try:
        headless.execute(notebook, folder, headless.Listener(cell=_cell, text=_text, done=_done))
    finally:
        headless.write_notebook(notebook, folder / source.name)
        headless.write_html(notebook, folder / f"{source.stem}.html")
    return notebook


def set_ranks(notebook: NotebookNode, ranks: int) -> None:
    """Make the notebook's ``%eai up -n N`` start `ranks` ranks."""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.source = re.sub(
                r"^(%eai up .*?-n) \d+", rf"\1 {ranks}", cell.source, flags=re.MULTILINE
            )


def find_auc(notebook: NotebookNode) -> float | None:
    """Return the last AUC that the notebook's cells printed, None where none did."""
    printed = [
        str(text)
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        for text in (output.get("text", ""), output.get("data", {}).get("text/plain", ""))
    ]
    found = re.findall(r"\bAUC\b[^\d\n]*([01]\.\d+)", "\n".join(printed))
    return float(found[-1]) if found else None


def _print_result(notebook: NotebookNode, truth: Truth, folder: Path, seconds: float) -> None:
    from eai_notebook.ledger.report import report_record
    from eai_notebook.ledger.run_record import RunRecord, list_runs

    runs = list_runs(folder / "runs")
    if not runs:
        raise EaiError(
            "the notebook wrote no run record",
            f"read the cells' errors in {folder / NOTEBOOK}",
            code="notebook-failed",
        )
    console.out.print()
    console.out.print(report_record(RunRecord(runs[0])).to_text(), highlight=False)
    auc = find_auc(notebook)
    if auc is None:
        raise EaiError(
            "the notebook printed no AUC",
            f"read the cells' errors in {folder / NOTEBOOK}",
            code="notebook-failed",
        )
    best = (
        "" if truth.bayes_auc_test is None else f"; the best possible is {truth.bayes_auc_test:.4f}"
    )
    console.out.print(f"\nAUC on held-out rows {auc:.4f}{best}", highlight=False)
    console.out.print(
        f"notebook: {folder / NOTEBOOK}\nHTML copy:  {(folder / NOTEBOOK).with_suffix('.html')}\n"
        f"finished in {seconds:.0f} s",
        highlight=False,
    )


def _cell(number: int, count: int, title: str) -> None:
    console.err.rule(f"[bold]{number}/{count}[/] {title}", align="left")


def _text(stream: str) -> None:
    console.err.file.write(stream)
    console.err.file.flush()


def _done(seconds: float) -> None:
    if seconds >= 1:
        console.note(f"  {seconds:.1f} s")
