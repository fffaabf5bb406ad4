from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import nbformat
import pytest
from kernel_sockets import execute_notebook
from nbconvert.exporters import HTMLExporter
from synthetic import run_record, run_rows
from waiting import PATIENCE_S

from eai_notebook.display import LiveRun, show
from eai_notebook.display.control_buttons import controls
from eai_notebook.display.live_run import RUN_MIME
from eai_notebook.errors import EaiError
from eai_notebook.ledger.view_model import record_view

if TYPE_CHECKING:
    from pathlib import Path

CELL = """
import json
from pathlib import Path
from eai_notebook.display.panel_channel import PanelChannel
from eai_notebook.magics.notebook_observer import NotebookWatcher
view = json.loads(Path({view!r}).read_text())
panel = PanelChannel(lambda name, arguments: None)
panel.group({{"state": "busy", "size": 2, "message": "", "ranks": []}})
watcher = NotebookWatcher(panel)
watcher.run_awaited("other")
watcher.run_awaited(None)
watcher.run_awaited("fit")
print("Epoch 1/2")
for _ in range(3):
    watcher.run(view, final=False)
watcher.run(view, final=True)
"""


@pytest.fixture
def view(tmp_path: Path) -> dict[str, Any]:
    return record_view(run_record(tmp_path, run_rows(2, 40)))


def executed(view: dict[str, Any], folder: Path) -> Any:
    import json

    (folder / "view.json").write_text(json.dumps(view))
    cell = nbformat.v4.new_code_cell(CELL.format(view=str(folder / "view.json")))
    return execute_notebook(nbformat.v4.new_notebook(cells=[cell]), folder, timeout=PATIENCE_S)


def test_a_headless_notebook_ends_with_the_twin_and_its_export_shows_it(
    view: dict[str, Any], tmp_path: Path
) -> None:
    notebook = executed(view, tmp_path)
    failed, output, printed = notebook.cells[0].outputs
    assert failed.data["text/plain"] == "other ended before its first step"
    assert printed.text == "Epoch 1/2\n"  # below the picture, though it came before the first view
    assert set(output.data) == {"text/html", "text/plain"}
    assert "compute-bound" in output.data["text/plain"]
    html, _ = HTMLExporter().from_notebook_node(notebook)
    assert 'class="eai-ledger"' in html
    assert "image/svg+xml" in html


def test_a_run_that_goes_on_is_shown_by_any_front_end(view: dict[str, Any], tmp_path: Path) -> None:
    import json

    (tmp_path / "view.json").write_text(json.dumps(view))
    source = CELL.format(view=str(tmp_path / "view.json")).replace(
        "watcher.run(view, final=True)", ""
    )
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    notebook = execute_notebook(book, tmp_path, timeout=PATIENCE_S)
    _, output, _ = notebook.cells[0].outputs
    assert set(output.data) == {RUN_MIME, "text/html", "text/plain"}
    assert output.data[RUN_MIME] == view
    assert "image/svg+xml" in output.data["text/html"]
    assert "compute-bound" in output.data["text/plain"]
    html, _ = HTMLExporter().from_notebook_node(notebook)
    assert 'class="eai-ledger"' in html
    assert " object at 0x" not in html
    assert "widgets" not in notebook.metadata


def test_a_terminal_gets_the_text_once(view: dict[str, Any], tmp_path: Path) -> None:
    import json

    (tmp_path / "view.json").write_text(json.dumps(view))
    script = CELL.format(view=str(tmp_path / "view.json"))
    done = subprocess.run(
        [sys.executable, "-m", "IPython", "--colors=NoColor", "-c", script],
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE_S,
    )
    assert done.stdout.count("compute-bound: ") == 1
    assert "rank 1 " in done.stdout


def test_without_ipython_nothing_is_shown(
    view: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    live = LiveRun("fit")
    live.update(view)
    live.finish(view)
    assert capsys.readouterr().out == ""


def test_show_takes_a_record_its_folder_or_the_latest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EAI_RUNS", str(tmp_path))
    with pytest.raises(EaiError, match="no run is recorded in"):
        show()
    record = run_record(tmp_path, run_rows(2, 40))
    show(record)
    first = capsys.readouterr().out
    assert first.startswith("compute-bound: ")
    show(record.path)
    show(str(record.path))
    show()
    assert capsys.readouterr().out == 3 * first
    with pytest.raises(EaiError, match="not a run record"):
        show(tmp_path)


def test_controls_need_a_notebook() -> None:
    with pytest.raises(EaiError, match="buttons need a notebook"):
        controls()
