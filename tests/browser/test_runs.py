"""Earlier runs in the panel, and the files that it saves, opened without a server."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import nbformat
import pytest
from synthetic import run_record, run_rows

from eai_notebook.display.static_html import html
from eai_notebook.ledger.view_model import record_view

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from browser.lab import Notebook
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser

RECORDED = """\
%load_ext eai_notebook
from pathlib import Path
from eai_notebook.ledger.run_record import runs_folder
from synthetic import run_record, run_rows
_ = run_record(runs_folder(), run_rows(4, 300), name="before_shards")
_ = run_record(runs_folder(), run_rows(4, 300, input=0.006), name="after_shards")"""


def test_runs_are_opened_compared_and_saved(
    open_notebook: Callable[..., Notebook], browser: Browser, tmp_path: Path
) -> None:
    notebook = open_notebook(RECORDED, name="compare")
    notebook.run_cell()
    notebook.wait_cells(1)
    page = notebook.page
    page.get_by_role("button", name="Show earlier runs").click()
    runs = page.get_by_role("region", name="Runs")
    runs.get_by_role("button", name="before_shards", exact=True).click()
    notebook.wait_steps(300)
    assert "from its record" in notebook.panel()

    runs.get_by_role("checkbox", name="before_shards").check()
    runs.get_by_role("checkbox", name="after_shards").check()
    page.get_by_role("button", name="Compare").click()
    table = page.get_by_role("region", name="Comparison")
    table.wait_for()
    shown = table.inner_text()
    assert "`" not in shown
    assert "ms longer: input is" in shown
    assert "+5." in table.get_by_role("row", name="input").inner_text()
    notebook.panel_width(420)
    table.scroll_into_view_if_needed()
    notebook.screenshot("compare-light")
    notebook.theme("JupyterLab Dark")
    notebook.screenshot("compare-dark")
    notebook.theme("JupyterLab Light")

    runs.get_by_role("checkbox", name="before_shards").uncheck()
    saved = save(page, "Save page", tmp_path)
    image = plt.imread(save(page, "Save PNG", tmp_path))
    assert image.shape[1] == 1800
    assert image[0].min() == 1.0  # a white margin, then the picture
    assert (image[..., :3].min(axis=2) < 0.5).mean() > 0.01
    trace = json.loads(save(page, "Save trace", tmp_path).read_text())
    assert {event["pid"] for event in trace["traceEvents"]} == {0, 1, 2, 3}
    page.get_by_role("button", name="Back to now").click()
    assert "from its record" not in notebook.panel()
    assert notebook.outside == []
    show_untrusted(notebook, tmp_path)
    opened_from_disk(browser, saved)


def test_runs_are_searched_sorted_starred_renamed_and_deleted(
    open_notebook: Callable[..., Notebook],
) -> None:
    notebook = open_notebook(
        f"{RECORDED.replace('_shards', '_table')}\n"
        "record = run_record(runs_folder(), run_rows(2, 40), name='third_table')\n"
        "record.note(outcome={'values': {'loss': 0.4321}, 'step_ms': 12.5})"
    )
    notebook.run_cell()
    notebook.wait_cells(1)
    notebook.panel_width(620)
    page = notebook.page
    page.get_by_role("button", name="Show earlier runs").click()
    runs = page.get_by_role("region", name="Runs")
    runs.get_by_label("Search runs").fill("_table")
    names = runs.locator("tbody .eai-Runs-name")
    page.wait_for_function("document.querySelectorAll('.eai-Runs tbody tr').length === 3")
    assert [n.strip() for n in names.all_inner_texts()] == [
        "third_table",
        "after_table",
        "before_table",
    ]
    row = runs.get_by_role("row", name="third_table")
    assert "0.4321" in row.inner_text()
    assert "12.5 ms" in row.inner_text()
    runs.get_by_role("button", name="steps").click()
    assert names.last.inner_text().strip() == "third_table"
    runs.get_by_role("button", name="star before_table").click()
    page.wait_for_function(
        "document.querySelector('.eai-Runs-name').innerText.trim() === 'before_table'"
    )
    notebook.screenshot("runs-light", "#eai-notebook-panel")

    runs.get_by_role("checkbox", name="third_table").check()
    runs.get_by_role("button", name="Rename").click()
    page.locator(".jp-Dialog input").fill("best_table")
    page.locator(".jp-Dialog button.jp-mod-accept").click()
    runs.get_by_role("button", name="best_table", exact=True).wait_for()
    for label, text in ("Tags", "fp16, baseline"), ("Note", "with the new shards"):
        runs.get_by_role("button", name=label).click()
        page.locator(".jp-Dialog input").fill(text)
        page.locator(".jp-Dialog button.jp-mod-accept").click()
        page.locator(".jp-Dialog").wait_for(state="detached")
    runs.get_by_text("with the new shards").wait_for()
    runs.get_by_role("button", name="#baseline").click()
    page.wait_for_function("document.querySelectorAll('.eai-Runs tbody tr').length === 1")
    assert names.all_inner_texts() == ["best_table"]
    notebook.screenshot("runs-noted-light", "#eai-notebook-panel")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    runs.get_by_role("button", name="Copy table").click()
    copied = page.evaluate("navigator.clipboard.readText()").split("\n")
    assert copied[0] == "| name | when | took | ranks | steps | a step | loss | verdict | note |"
    assert copied[2].startswith("| best_table | ")
    assert copied[2].endswith("| #fp16 #baseline with the new shards |")
    assert len(copied) == 3
    runs.get_by_label("Search runs").fill("_table")
    runs.get_by_role("button", name="Delete").click()
    page.locator(".jp-Dialog button.jp-mod-warn").click()
    runs.get_by_role("button", name="best_table", exact=True).wait_for(state="detached")
    notebook.theme("JupyterLab Dark")
    notebook.panel_width(250)
    notebook.screenshot("runs-dark-narrow", "#eai-notebook-panel")
    notebook.theme("JupyterLab Light")


def show_untrusted(notebook: Notebook, folder: Path) -> None:
    """A picture in a notebook from somewhere else is shown without the trust that scripts need."""
    picture = html(record_view(run_record(folder / "other", run_rows(2, 60))))
    cell = nbformat.v4.new_code_cell("")
    cell.outputs = [nbformat.v4.new_output("display_data", {"text/html": picture})]
    foreign = nbformat.v4.new_notebook(cells=[cell])
    nbformat.write(foreign, notebook.lab.root / "foreign.ipynb")
    page = notebook.page
    page.evaluate(
        "void window.jupyterapp.commands.execute('docmanager:open', { path: 'foreign.ipynb' })"
    )
    page.locator(".jp-Dialog button.jp-mod-reject").click()  # no kernel
    image = page.locator(".jp-OutputArea figure.eai-ledger img[src*=svg]").first
    image.wait_for()
    assert image.evaluate("i => i.naturalWidth") > 0
    assert image.evaluate("i => i.clientHeight") == 48  # its style is kept, too
    notebook.screenshot("untrusted")
    page.evaluate("void window.jupyterapp.commands.execute('application:close')")


def save(page: Page, button: str, folder: Path) -> Path:
    with page.expect_download() as download:
        page.get_by_role("button", name=button).click()
    path = folder / download.value.suggested_filename
    download.value.save_as(path)
    return path


def opened_from_disk(browser: Browser, saved: Path) -> None:
    """The saved page draws itself without a network."""
    context = browser.new_context(offline=True, viewport={"width": 900, "height": 900})
    page = context.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(saved.as_uri())
    assert "after_shards" in page.title()
    assert page.locator("figure.eai-ledger img[src*=svg]").count() == 1 + 4 + 1
    assert page.locator("figure.eai-ledger img[src*=png]").evaluate("i => i.naturalWidth") > 50
    assert all(url.startswith(("file:", "data:")) for url in asked)
    context.close()
