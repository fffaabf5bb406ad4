"""Who cannot see the panel, or not use a mouse: axe-core's rules, and what is asked by buttons."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from browser.lab import ROOT, SCREENS

if TYPE_CHECKING:
    from collections.abc import Callable

    from browser.lab import Notebook

pytestmark = pytest.mark.browser

AXE = ROOT / "labextension" / "node_modules" / "axe-core" / "axe.min.js"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
PLAY = "from player import Player\nplayer = Player(10)\nplayer.play(60, 600, late={3: {'input': 0.01}}, live=False)"


@pytest.mark.skipif(not AXE.exists(), reason="axe-core is not installed (npm ci in labextension)")
@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_the_panel_breaks_no_rule_of_wcag(
    open_notebook: Callable[..., Notebook], theme: str
) -> None:
    notebook = open_notebook(
        "from pathlib import Path\nfrom synthetic import run_record, run_rows\n"
        "from eai_notebook.ledger.run_record import runs_folder\n%load_ext eai_notebook\n"
        "_ = run_record(runs_folder(), run_rows(2, 100), name='access')",
        PLAY,
    )
    notebook.theme(theme)
    page = notebook.page
    found = violations(page)  # the form
    page.get_by_label("Ranks").fill("none")
    found += violations(page)
    page.get_by_label("Ranks").fill("2")
    notebook.run_cell()
    notebook.wait_cells(1)
    page.get_by_role("button", name="Show earlier runs").click()
    page.get_by_role("region", name="Runs").get_by_role("checkbox").first.check()
    notebook.run_cell()
    notebook.wait_steps(40)
    page.get_by_role("button", name="rank 3 on gpu1").click()
    page.get_by_role("region", name="Log of rank 3").wait_for()
    found += violations(page)
    notebook.screenshot(f"access-{'dark' if 'Dark' in theme else 'light'}", "#eai-notebook-panel")
    page.get_by_role("button", name="Stop", exact=True).click()
    notebook.theme("JupyterLab Light")
    assert found == []


def violations(page: Any, where: str = "#eai-notebook-panel") -> list[str]:
    """Return what axe-core finds in the panel, or elsewhere: rule, element, summary."""
    if not page.evaluate("'axe' in window"):
        page.add_script_tag(path=str(AXE))
    return list(
        page.evaluate(
            """async ([where, rules]) => {
                const found = await axe.run(where, {
                    runOnly: { type: 'tag', values: rules }
                });
                return found.violations.flatMap(one => one.nodes.map(
                    node => `${one.id}: ${node.html.slice(0, 160)}: ${node.failureSummary}`
                ));
            }""",
            [where, RULES],
        )
    )


def test_where_is_answered_while_a_cell_runs_and_a_log_is_searched(
    open_notebook: Callable[..., Notebook],
) -> None:
    notebook = open_notebook(PLAY)
    notebook.run_cell()
    notebook.wait_steps(20)
    page = notebook.page
    page.get_by_role("button", name="Where", exact=True).click()
    page.get_by_text("training step 12").wait_for()
    assert notebook.is_running()
    page.get_by_role("button", name="Diff", exact=True).click()
    page.get_by_role("textbox", name="variable").fill("model")
    page.keyboard.press("Enter")
    page.get_by_text("is compared at the end of step 100000; ").wait_for()
    page.get_by_text("of rank 3 differs from rank 0 at the end").wait_for()
    assert "is compared at the end" not in notebook.panel()
    notebook.screenshot("diff-light", "#eai-notebook-panel")
    notebook.theme("JupyterLab Dark")
    notebook.screenshot("diff-dark", "#eai-notebook-panel")
    notebook.theme("JupyterLab Light")
    page.get_by_role("button", name="rank 3 on gpu1").click()
    log = page.get_by_role("region", name="Log of rank 3")
    log.get_by_text("31 batches read").wait_for()
    log.get_by_label("Search the log").fill("epoch")
    assert log.locator("pre").inner_text().strip() == "Epoch 1/3"
    log.get_by_label("Search the log").fill("")
    log.get_by_label("Lines of the log").select_option("warnings")
    assert log.locator("pre").inner_text().strip() == "WARNING: slow disk"
    page.get_by_role("button", name="Log of all ranks").click()
    every = page.get_by_role("region", name="Log of all ranks")
    every.get_by_text("rank all: 31 batches read").wait_for()
    with page.expect_download() as download:
        every.get_by_role("button", name="Save", exact=True).click()
    assert download.value.suggested_filename == "all-ranks.log"
    assert "31 batches read" in download.value.path().read_text()
    notebook.screenshot("log-light", "#eai-notebook-panel")
    page.get_by_role("button", name="Stop", exact=True).click()
    notebook.wait_cells(1)
    assert "31 batches read" not in page.locator(".eai-Cards").all_inner_texts()


def test_remedies_are_listed_while_a_cell_runs_and_one_is_tried(
    open_notebook: Callable[..., Notebook],
) -> None:
    notebook = open_notebook(PLAY)
    notebook.run_cell()
    notebook.wait_steps(20)
    page = notebook.page
    page.get_by_role("button", name="Advise", exact=True).click()
    remedies = page.get_by_role("list", name="Remedies").get_by_role("listitem")
    remedies.first.wait_for()
    first, second = remedies.all()
    assert "expected: 22.5 ms of 41.9 less (17.9 to 22.6), against input" in first.inner_text()
    assert "changes results" in second.inner_text()
    assert second.get_by_role("button").count() == 0
    first.get_by_role("button", name="Try", exact=True).click()
    page.get_by_text("twice the readers: `readers=4`: tried in run abc123").wait_for()
    page.get_by_role("button", name="Report", exact=True).click()
    report = page.get_by_role("region", name="Report")
    assert "%" in report.get_by_role("row", name="compute").inner_text()
    assert report.get_by_role("columnheader", name="median").is_visible()
    notebook.screenshot("report-light", "#eai-notebook-panel")
    assert notebook.is_running()
    if AXE.exists():
        assert violations(page) == []
    page.get_by_role("button", name="Stop", exact=True).click()
    notebook.wait_cells(1)


REFLOW = """
from player import Player
from synthetic import run_record, run_rows
from eai_notebook.ledger.run_record import runs_folder
from eai_notebook.display.run_browser import saved_page
record = run_record(runs_folder(), run_rows(12, 300, late={7: {"compute": 0.004}}), name="reflow")
open("reflow.html", "w").write(saved_page(record.path.name)["text"])
%load_ext eai_notebook
player = Player(12)
_ = player.play(1, 300, live=False)
"""

OVERFLOWING = """where => {
    const root = document.querySelector(where);
    const edge = root.getBoundingClientRect().left + root.clientWidth + 1;
    // Tables and preformatted text may scroll by themselves (WCAG 1.4.10).
    const scrolls = node => node.closest('.eai-Runs, pre, .eai-Chart-table, .eai-report-table') !== null;
    return [...root.querySelectorAll('*')].filter(node => {
        const box = node.getBoundingClientRect();
        return box.width > 0 && box.right > edge && !scrolls(node);
    }).map(node => `${node.tagName} ${node.className} ${node.textContent.slice(0, 40)}`);
}"""


def overflowing(page: Any, where: str) -> list[str]:
    """Return what is still cut off once the layout has settled, which it does in its own time."""
    found: list[str] = []
    for _ in range(100):
        found = page.evaluate(OVERFLOWING, where)
        if not found:
            break
        page.wait_for_timeout(100)
    return found


def test_nothing_is_cut_off_in_320_pixels(open_notebook: Callable[..., Notebook]) -> None:
    """WCAG 2.2, 1.4.10: the panel, a run's tab and the saved page need no scrolling to the side."""
    notebook = open_notebook(REFLOW)
    notebook.run_cell()
    notebook.wait_steps(300)
    notebook.wait_cells(1)
    page = notebook.page
    page.get_by_role("button", name="Show earlier runs").click()
    page.get_by_role("region", name="Runs").get_by_role("checkbox").first.check()
    page.get_by_role("button", name="Diff", exact=True).click()
    found = []
    for width in (320, 250):
        notebook.panel_width(width)
        notebook.screenshot(f"reflow-{width}-light", "#eai-notebook-panel")
        found += overflowing(page, "#eai-notebook-panel")
    page.get_by_role("button", name="Open in tab").click()
    page.locator(".eai-Tab .eai-Chart").wait_for()
    page.set_viewport_size({"width": 320, "height": 800})
    page.evaluate("window.jupyterapp.shell.collapseRight?.()")
    found += overflowing(page, ".eai-Tab")
    notebook.screenshot("reflow-tab-light")
    page.set_viewport_size({"width": 1400, "height": 900})
    page.evaluate("window.jupyterapp.commands.execute('eai-notebook:show')")
    assert found == []

    saved = page.context.new_page()
    saved.set_viewport_size({"width": 320, "height": 800})
    saved.goto((notebook.lab.root / "reflow.html").as_uri())
    saved.screenshot(path=SCREENS / "reflow-page-light.png")
    assert overflowing(saved, "body") == []
    assert saved.evaluate("document.documentElement.scrollWidth") <= 320
    saved.close()


NOTED = """
    window.shownNotes = [];
    window.Notification = class {
        constructor(title, options) { window.shownNotes.push(`${title}: ${options.body}`); }
        static get permission() { return 'granted'; }
        static async requestPermission() { return 'granted'; }
    };
    document.hasFocus = () => false;
"""


def test_the_end_of_a_run_is_notified_where_the_browser_allows_it(
    open_notebook: Callable[..., Notebook],
) -> None:
    notebook = open_notebook(
        "from player import Player\nplayer = Player(2)",
        "_ = player.play(2, 60, live=False)",
        apart=True,
    )
    page = notebook.page
    page.evaluate(NOTED)
    notebook.run_cell()
    notebook.wait_cells(1)
    page.get_by_label("Notify when a run ends").check()
    notebook.run_cell()
    notebook.wait_cells(2)
    page.wait_for_function("window.shownNotes.length > 0")
    (note,) = page.evaluate("window.shownNotes")
    assert note.startswith("wide_deep is done after")
    page.get_by_label("Notify when a run ends").uncheck()


def test_earlier_runs_are_reached_without_a_notebook(
    open_notebook: Callable[..., Notebook],
) -> None:
    notebook = open_notebook(
        "from synthetic import run_record, run_rows\n"
        "from eai_notebook.ledger.run_record import runs_folder\n"
        "_ = run_record(runs_folder(), run_rows(2, 100), name='left_alone')"
    )
    notebook.run_cell()
    notebook.wait_cells(1)
    page = notebook.page
    notebook.save()
    page.evaluate("void window.jupyterapp.commands.execute('application:close')")
    panel = page.locator("#eai-notebook-panel")
    panel.get_by_role("button", name="Show earlier runs").click()
    panel.get_by_role("button", name="left_alone", exact=True).first.click()
    panel.get_by_text("from its record").wait_for()
    notebook.screenshot("no-notebook-light")
    panel.get_by_role("button", name="Close", exact=True).click()
    panel.get_by_role("button", name="Show earlier runs").wait_for()


COMPILING = """import time
from player import Player
player = Player(2)
player.play(1, 20, live=False)
from eai_notebook.ledger.aggregate import Summary
from eai_notebook.ledger.run_record import RunInfo
from eai_notebook.ledger.view_model import run_view
info = RunInfo("r2", "wide", 2, time.time() - 12, hosts={0: "here", 1: "here"})
player.panel.run(run_view(info, Summary()))
print("shown")"""


def test_a_run_without_steps_is_compiling_and_one_that_ended_says_how_and_when(
    open_notebook: Callable[..., Notebook],
) -> None:
    notebook = open_notebook(COMPILING)
    notebook.run_cell()
    notebook.wait_cells(1)
    page = notebook.page
    page.locator("#eai-notebook-panel").get_by_text("compiling the first step, 1").wait_for()
    assert "no verdict" not in notebook.panel()
    assert "not measured" not in notebook.panel()
    notebook.screenshot("compiling-light", "#eai-notebook-panel")


def test_a_notebook_that_uses_the_package_has_the_panel_beside_it_the_first_time(
    open_notebook: Callable[..., Notebook],
) -> None:
    notebook = open_notebook("%load_ext eai_notebook")
    page = notebook.page
    page.evaluate(
        """for (const key of ['shown', 'widened']) {
            localStorage.removeItem(`eai-notebook:${key}`);
        }
        window.jupyterapp.shell.collapseRight?.()"""
    )
    notebook.reload()
    page.wait_for_selector("#eai-notebook-panel .eai-Panel-section")
    panel = page.locator("#eai-notebook-panel")
    assert panel.is_visible()
    page.wait_for_function("document.querySelector('#eai-notebook-panel').clientWidth >= 320")
    # From then on it is as wide as its user made it.
    notebook.panel_width(260)
    notebook.reload()
    notebook.wait_ready(idle=False)
    assert panel.evaluate("node => node.clientWidth") < 300
    page.evaluate("void window.jupyterapp.commands.execute('launcher:create')")
    page.locator(".jp-LauncherCard", has_text="Distributed training").first.wait_for()
    notebook.screenshot("launcher-light")
