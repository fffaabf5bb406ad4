"""A run in a tab of the main area: larger charts, and a closer look at some of its steps."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from browser.test_access import AXE, violations

if TYPE_CHECKING:
    from collections.abc import Callable

    from browser.lab import Notebook

pytestmark = pytest.mark.browser

LONG = """from player import Player
from synthetic import run_record, run_rows
from eai_notebook.ledger.run_record import runs_folder
from eai_notebook.ledger.view_model import record_view
rows = run_rows(4, 6188, late={2: {"compute": 0.004}})
record = run_record(runs_folder(), rows, name="long")
player = Player(4)
player.panel.run(record_view(record) | {"training": player.curve(6188)})"""

CLOSER = "!document.querySelector('.eai-Tab .eai-Chart-zoomed').innerText.includes('whole run')"
"""The numbers of the steps that are shown have come."""


def test_steps_are_looked_at_closer_and_closer_in_a_tab(
    open_notebook: Callable[..., Notebook],
) -> None:
    notebook = open_notebook(LONG)
    page = notebook.page
    tab = notebook.open_tab(6188)
    bars = tab.locator(".eai-Chart-plot > canvas")
    tab.locator(".eai-Lines").first.wait_for()
    notebook.screenshot("tab-light")
    assert tab.get_by_role("button", name="Whole run").is_hidden()

    bars.scroll_into_view_if_needed()
    drag(notebook, bars, 0.25, 0.5)
    zoomed = tab.locator(".eai-Chart-zoomed").first
    zoomed.get_by_text(re.compile(r"\d")).first.wait_for()
    first, last = numbers(zoomed.inner_text())[:2]
    assert abs(first - 6188 / 4) < 40
    assert abs(last - 6188 / 2) < 40
    page.wait_for_function(CLOSER)
    # Closer: a bar stands for fewer steps than one of the whole run does.
    bars.hover(position={"x": 200, "y": 60})
    one = numbers(tab.locator(".eai-Chart-pointed").first.inner_text())
    assert first <= one[0] <= last
    assert one[-1] - one[0] < 16
    notebook.screenshot("tab-zoomed-light")
    if AXE.exists():
        assert violations(page, ".eai-Tab") == []

    # The keyboard opens a bar, and goes back to the whole run.
    bars.focus()
    for _ in range(8):
        page.keyboard.press("+")
    page.wait_for_function(CLOSER)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.wait_for_function(
        "/^step [\\d,]+ of 6,188$/.test("
        "document.querySelector('.eai-Tab .eai-Chart-zoomed span').innerText)"
    )
    page.wait_for_function(CLOSER)
    lengths = tab.locator(".eai-Chart-lengths").inner_text()
    assert len(re.findall(r"ms", lengths)) == 4  # the one step by rank
    notebook.screenshot("tab-step-light")
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    tab.get_by_role("button", name="Whole run").wait_for(state="hidden")
    assert notebook.outside == []


HOSTS = """from player import Player
from synthetic import run_record, run_rows
from eai_notebook.ledger.run_record import runs_folder
from eai_notebook.ledger.view_model import record_view
from eai_notebook.ledger.vitals_curve import VitalsCurve
from eai_notebook.telemetry.messages import Gpu, ResourceUsage
rows = run_rows(24, 300, late={17: {"compute": 0.004}})
record = run_record(runs_folder(), rows, name="hosts")
curve = VitalsCurve()
for second in range(0, 240, 2):
    for rank in range(24):
        gpus = [Gpu(0, "a GPU", 60.0 + rank + second % 9, 3e10, 8e10)] if rank < 8 else []
        curve.add(second, ResourceUsage(rank, 80.0 + rank, 2e9 + 1e6 * second, gpus,
                                        network_bytes_per_s=1e6 * (5 + rank // 8)))
record.keep_vitals(curve)
Player(24).panel.run(record_view(record))"""


def test_ranks_are_sorted_and_hosts_are_folded(
    open_notebook: Callable[..., Notebook],
) -> None:
    notebook = open_notebook(HOSTS)
    page = notebook.page
    tab = notebook.open_tab(300)
    bars = tab.locator(".eai-Chart-ranks canvas")
    bars.scroll_into_view_if_needed()

    def first_row(selector: str = ".eai-Chart-ranks canvas") -> str:
        tab.locator(selector).hover(position={"x": 30, "y": 3})
        title = ".eai-Heat-title" if "Heat" in selector else ".eai-Chart-pointed"
        return tab.locator(title).first.inner_text()

    def wait_for_first_row(is_right: Callable[[str], bool]) -> None:
        """Hover until the picture is drawn in its new order."""
        for _ in range(100):
            if is_right(first_row()):
                return
            page.wait_for_timeout(100)
        assert is_right(first_row()), first_row()

    assert first_row() == "rank 0 on gpu1"
    tab.get_by_label("Order of the ranks").select_option("slowest first")
    wait_for_first_row(lambda row: row == "rank 17 on gpu3")
    assert first_row(".eai-Heat-canvas").startswith("rank 17,")
    tab.get_by_label("Order of the ranks").select_option("most waiting first")
    wait_for_first_row(lambda row: row != "rank 17 on gpu3")

    tab.get_by_label("fold hosts").check()
    host = tab.get_by_role("button", name="gpu3 · 8")
    host.wait_for()
    assert tab.locator(".eai-Chart-labels > *").count() == 3
    wait_for_first_row(lambda row: row == "mean of 8 ranks on gpu1")
    assert first_row(".eai-Heat-canvas").startswith("slowest rank of gpu1,")
    notebook.screenshot("hosts-folded-light")
    host.focus()
    page.keyboard.press("Enter")
    tab.locator(".eai-Chart-labels > *").nth(10).wait_for()
    assert tab.get_by_role("button", name="gpu3 · 8").evaluate("b => b === document.activeElement")
    labels = tab.locator(".eai-Chart-labels > *").all_inner_texts()
    assert labels[-1] == "rank 17"  # the others wait for it


def test_how_ranks_were_is_drawn_over_time_and_looked_at_closer(
    open_notebook: Callable[..., Notebook],
) -> None:
    notebook = open_notebook(HOSTS)
    page = notebook.page
    tab = notebook.open_tab(300)
    vitals = tab.locator(".eai-Vitals")
    vitals.scroll_into_view_if_needed()
    titles = [text.split("\n")[0] for text in vitals.locator(".eai-Lines-title").all_inner_texts()]
    assert [title.split(",")[0] for title in titles] == [
        "CPU of a rank", "memory of a rank", "network of a host", "GPU of a rank",
        "GPU memory of a rank",
    ]  # fmt: skip
    first = vitals.locator(".eai-Lines").first
    assert "highest" in first.inner_text()
    assert "gpu3" in vitals.locator(".eai-Lines").nth(2).inner_text()
    first.locator(".eai-Chart-plot").hover(position={"x": 100, "y": 40})
    assert "103" in first.locator(".eai-Tooltip").inner_text()
    notebook.screenshot("vitals-light")
    if AXE.exists():
        assert violations(page, ".eai-Tab") == []

    # A stretch of time of one quantity is shown of all of them.
    plots = vitals.locator(".eai-Lines .eai-Chart-plot")
    drag(notebook, plots.first, 0.5, 0.75)
    shown = vitals.get_by_role("status")
    assert re.match(r"(1 min 5|2 min )\d s to (2 min 5|3 min )\d s of the run", shown.inner_text())
    axes = vitals.locator(".eai-Lines .eai-Chart-axis > :first-child").all_inner_texts()
    assert set(axes) == {shown.inner_text().split(" to ")[0]}
    notebook.screenshot("vitals-zoomed-light")
    plots.nth(1).focus()
    page.keyboard.press("-")
    assert re.match(r"1 min \d+ s to 3 min \d+ s of the run", shown.inner_text())
    page.keyboard.press("Escape")
    shown.wait_for(state="hidden")
    notebook.theme("JupyterLab Dark")
    notebook.screenshot("vitals-dark")
    notebook.theme("JupyterLab Light")


SEVERAL = """%load_ext eai_notebook
from player import Player
from synthetic import run_record, run_rows
from eai_notebook.ledger.run_record import runs_folder
from eai_notebook.telemetry.messages import TrainingProgress
for name, rate in ("slow", 0.2), ("medium", 0.5), ("quick", 0.9):
    record = run_record(runs_folder(), run_rows(2, 300, compute=0.01 / rate), name=f"{name}_overlay")
    for step in range(1, 300, 10):
        values = {"loss": 0.3 + 0.4 / (1 + rate * step / 10)}
        record.add(TrainingProgress(record.info.run, 0, step, 0, values))
        record.add(TrainingProgress(record.info.run, 1, step, 0, values))
    end = {"loss": 0.3 + 0.1 * rate, "val_loss": 0.35 + 0.1 * rate}
    record.add(TrainingProgress(record.info.run, 0, 299, 0, end, whole=True))"""


def test_several_runs_are_laid_over_each_other(open_notebook: Callable[..., Notebook]) -> None:
    notebook = open_notebook(SEVERAL)
    page = notebook.page
    notebook.run_cell()
    notebook.wait_cells(1)
    page.get_by_role("button", name="Show earlier runs").click()
    runs = page.get_by_role("region", name="Runs")
    runs.get_by_label("Search runs").fill("_overlay")
    for name in ("slow", "medium", "quick"):
        runs.get_by_role("checkbox", name=f"{name}_overlay").check()
    runs.get_by_role("button", name="Overlay", exact=True).click()
    tab = page.locator(".eai-Tab")
    curves = tab.locator(".eai-Lines", has_text="step time").locator(".eai-Lines-curve")
    curves.nth(2).wait_for(state="attached")
    titles = tab.locator(".eai-Lines-title").all_inner_texts()
    assert [title.split("\n")[0] for title in titles] == [
        "loss",
        "val_loss",
        "step time",
        "samples/s",
    ]
    plot = tab.locator(".eai-Lines .eai-Chart-plot").first
    plot.hover(position={"x": 60, "y": 40})
    assert "quick_overlay" in tab.locator(".eai-Lines .eai-Tooltip").first.inner_text()
    notebook.screenshot("overlay-light")
    drag(notebook, plot, 0.2, 0.6)
    tab.get_by_role("button", name="All steps").click()
    if AXE.exists():
        assert violations(page, ".eai-Tab") == []
    assert "slow_overlay" in tab.locator("table").inner_text()
    notebook.theme("JupyterLab Dark")
    notebook.screenshot("overlay-dark")
    notebook.theme("JupyterLab Light")


def drag(notebook: Notebook, target: object, start: float, stop: float) -> None:
    """Drag over a share of an element."""
    box = target.bounding_box()  # type: ignore[attr-defined]
    mouse, y = notebook.page.mouse, box["y"] + box["height"] / 2
    mouse.move(box["x"] + start * box["width"], y)
    mouse.down()
    mouse.move(box["x"] + stop * box["width"], y, steps=4)
    mouse.up()


def numbers(words: str) -> list[int]:
    """Return the whole numbers in a text with thousands separators."""
    return [int(digits) for digits in re.findall(r"\d+", words.replace(",", ""))]
