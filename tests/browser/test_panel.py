from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from browser.lab import kernel_release
from nbconvert.exporters import HTMLExporter

if TYPE_CHECKING:
    from collections.abc import Callable

    from browser.lab import Lab, Notebook

pytestmark = pytest.mark.browser

PLAYER = "from player import Player\nplayer = Player({ranks})"


def test_a_run_is_drawn_live_and_stop_reaches_the_running_cell(
    open_notebook: Callable[..., Notebook],
) -> None:
    notebook = open_notebook(
        PLAYER.format(ranks=4), "print(player.play(60, 400, late={1: {'other': 0.010}}))"
    )
    notebook.run_cell()
    notebook.wait_cells(1)
    notebook.run_cell()
    notebook.wait_steps(40)
    assert notebook.is_running()
    notebook.wait_steps(40, where=".jp-OutputArea")
    assert "4 ranks running a cell" in notebook.panel()
    assert "waiting for rank 1" in notebook.panel()
    shown = notebook.page.locator("#eai-notebook-panel .eai-Training").inner_text()
    assert re.search(r"epoch [12] of 2", shown)
    assert re.search(r"step \d+ of 400", shown)
    assert "elapsed" in shown
    assert re.search(r"loss 0\.\d+", shown)
    notebook.screenshot("live-light")
    notebook.page.get_by_role("button", name="Stop", exact=True).click()
    notebook.wait_cells(2)
    output = notebook.page.locator(".jp-OutputArea-output").last.inner_text()
    if kernel_release() >= 7:
        assert "interrupt in subshell" in output
    else:  # the server interrupts; the command comes when the cell has ended
        assert "while a cell runs only Stop is served" in notebook.panel()
    notebook.page.wait_for_selector(".eai-Panel-state[data-state=up]")
    assert "4 ranks ready" in notebook.panel()
    assert notebook.outside == []


def test_many_ranks_fit_a_narrow_dark_panel_and_the_run_ends_as_its_twin(
    open_notebook: Callable[..., Notebook],
) -> None:
    notebook = open_notebook(
        PLAYER.format(ranks=64), "_ = player.play(4, 300, late={17: {'compute': 0.006}})"
    )
    notebook.theme("JupyterLab Dark")
    notebook.panel_width(250)
    notebook.run_cell()
    notebook.wait_cells(1)
    notebook.run_cell()
    notebook.wait_cells(2)
    notebook.wait_steps(300)
    notebook.screenshot("many-dark")
    panel = notebook.page.locator("#eai-notebook-panel")
    box = panel.bounding_box()
    assert box
    assert box["width"] < 300
    assert panel.evaluate("p => p.scrollWidth <= p.clientWidth")
    assert "◀ rank 17" in notebook.panel()
    assert contrast(notebook, "#eai-notebook-panel .eai-Chart-evidence") > 4.5

    notebook.screenshot("many-dark-panel", "#eai-notebook-panel")
    panel.evaluate("p => p.scrollTo(0, p.scrollHeight)")
    notebook.screenshot("many-dark-panel-end", "#eai-notebook-panel")
    notebook.theme("JupyterLab Light")  # the setting outlives the page
    assert (
        notebook.page.locator(".jp-OutputArea figure.eai-ledger img[src*=svg]").count()
        == 1 + 64 + 3
    )
    assert notebook.page.locator(".jp-OutputArea .eai-Chart").count() == 0
    output = notebook.save()["cells"][1]["outputs"][0]["data"]
    assert set(output) == {"text/html", "text/plain"}
    html, _ = HTMLExporter().from_filename(str(notebook.path))
    assert 'class="eai-ledger"' in html


def test_a_page_reloaded_in_the_middle_of_a_run_shows_it_again_and_can_stop_it(
    open_notebook: Callable[..., Notebook],
) -> None:
    notebook = open_notebook(PLAYER.format(ranks=2), "player.play(60, 600, live=False)")
    notebook.run_cell()
    notebook.wait_cells(1)
    notebook.run_cell()
    notebook.wait_steps(20)
    notebook.reload()
    notebook.wait_ready(idle=False)
    notebook.wait_steps(30)
    assert "2 ranks running a cell" in notebook.panel()
    notebook.page.get_by_role("button", name="Stop", exact=True).click()
    # The comm waits behind the cell here, so the panel interrupts through the server. What the
    # server calls idle may be an answer on the control channel, with the cell still running.
    notebook.page.wait_for_function(
        "!document.querySelector('#eai-notebook-panel').innerText.includes('running a cell')",
    )
    notebook.reload()
    notebook.wait_ready()
    notebook.wait_steps(30)
    assert "Ledger · wide_deep" in notebook.panel()


def test_the_cells_chart_survives_a_reload_and_ends_as_a_picture(
    open_notebook: Callable[..., Notebook],
) -> None:
    notebook = open_notebook(RECORDING)
    notebook.run_cell()
    notebook.wait_steps(20, where=".jp-OutputArea")
    saved = notebook.save()["cells"][0]["outputs"][-1]["data"]
    assert "image/svg+xml" in saved["text/html"]
    notebook.reload()
    notebook.wait_ready(idle=False)
    notebook.wait_steps(60, where=".jp-OutputArea")
    (notebook.lab.root / "seen").touch()
    notebook.page.locator(".jp-OutputArea figure.eai-ledger").wait_for()
    assert "model not found" not in notebook.page.locator(".jp-Notebook").inner_text()
    ended = notebook.save()["cells"][0]["outputs"][-1]["data"]
    assert set(ended) == {"text/html", "text/plain"}
    assert "object at 0x" not in str(ended)

    notebook.page.get_by_role("button", name="Insert picture").click()
    notebook.page.locator(".jp-OutputArea figure.eai-ledger").nth(1).wait_for()
    notebook.screenshot("inserted-light")
    cell = notebook.save()["cells"][1]
    assert "eai.show(" in cell["source"]
    assert "image/svg+xml" in cell["outputs"][0]["data"]["text/html"]


RECORDING = """from pathlib import Path
from player import Player
from eai_notebook.ledger.run_record import runs_folder
Player(2).play(6, 300, folder=runs_folder(), until="seen")"""


def test_a_notebook_that_does_not_use_it_is_left_alone(
    open_notebook: Callable[..., Notebook], lab: Lab
) -> None:
    notebook = open_notebook("print('hello')")
    notebook.run_cell()
    notebook.wait_cells(1)
    assert "No group is running" in notebook.panel()
    assert notebook.page.get_by_role("button", name="Start", exact=True).is_enabled()
    notebook.screenshot("empty-light")
    assert "comm target" not in lab.log


def test_the_bar_under_the_pointer_is_reported_in_numbers_beside_it(
    open_notebook: Callable[..., Notebook],
) -> None:
    notebook = open_notebook(PLAYER.format(ranks=2), "_ = player.play(1, 100, live=False)")
    notebook.run_cell()
    notebook.wait_cells(1)
    notebook.run_cell()
    notebook.wait_steps(100)
    panel = notebook.page.locator("#eai-notebook-panel")
    bars = panel.locator(".eai-Chart-plot canvas")
    wide = float(bars.evaluate("c => c.clientWidth"))
    bars.hover(position={"x": 0.505 * wide, "y": 60})
    tooltip = panel.locator(".eai-Tooltip")
    assert panel.locator(".eai-Chart-pointed").inner_text() == "step 50"
    assert "compute" in tooltip.inner_text()
    box = tooltip.bounding_box()
    assert box
    at = bars.bounding_box()
    assert at
    assert abs(box["x"] + box["width"] / 2 - (at["x"] + wide / 2)) < 200
    notebook.screenshot("tooltip-light", "#eai-notebook-panel")
    panel.locator(".eai-Chart-ranks canvas").hover(position={"x": 30, "y": 25})
    assert panel.locator(".eai-Chart-pointed").inner_text() == "rank 1 on gpu1"
    panel.locator("h2").first.hover()
    assert tooltip.is_hidden()
    # The compile step is the first bar; the keyboard reaches it, too.
    bars.focus()
    notebook.page.keyboard.press("Home")
    assert "step 0" in str(bars.get_attribute("aria-valuetext"))
    assert "not measured" in tooltip.inner_text()
    assert "compute" not in tooltip.inner_text()
    notebook.page.keyboard.press("ArrowRight")
    assert panel.locator(".eai-Chart-pointed").inner_text() == "step 1"
    notebook.page.keyboard.press("Escape")
    assert tooltip.is_hidden()


SPARSE = """import json, tempfile
from pathlib import Path
import numpy as np
from player import Player
from synthetic import run_record, run_rows
from eai_notebook.ledger.view_model import record_view
rows = run_rows(2, 6188)
for own in rows.values():
    skipped = (np.arange(6188) % 16 != 0) & (np.arange(6188) >= 50)
    for name in ("input", "compute", "ready", "reduced", "update"):
        own[name][skipped] = np.nan
Player(2).panel.run(record_view(run_record(Path(tempfile.mkdtemp()), rows)))"""


def test_the_axis_and_the_pointer_say_the_true_step_of_a_run_measured_now_and_then(
    open_notebook: Callable[..., Notebook],
) -> None:
    notebook = open_notebook(SPARSE)
    notebook.run_cell()
    notebook.wait_steps(6188)
    panel = notebook.page.locator("#eai-notebook-panel")
    bars = panel.locator(".eai-Chart-plot canvas")
    wide = float(bars.evaluate("c => c.clientWidth"))
    for share in (0.25, 0.63):
        bars.hover(position={"x": share * wide, "y": 60})
        shown = panel.locator(".eai-Chart-pointed").inner_text().replace(",", "")
        first, last = (int(step) for step in re.findall(r"\d+", shown))
        assert first - 40 <= share * 6188 <= last + 40
    labels = panel.locator(".eai-Chart-axis span").all_inner_texts()
    assert labels[0] == "step 0"
    assert labels[1:] in (["2,000", "4,000"], ["2,000", "4,000", "6,000"])
    assert "longest: step 0, 2.5 s" in notebook.panel()
    notebook.screenshot("sparse-light", "#eai-notebook-panel")


def test_a_restarted_kernel_has_no_group_and_can_get_one_again(
    open_notebook: Callable[..., Notebook],
) -> None:
    both = PLAYER.format(ranks=3) + "\n_ = player.play(1, 50, live=False)"
    notebook = open_notebook(both)
    notebook.run_cell()
    notebook.wait_cells(1)
    assert "3 ranks ready" in notebook.panel()
    notebook.page.evaluate("void window.jupyterapp.commands.execute('notebook:restart-kernel')")
    notebook.page.locator(".jp-Dialog button.jp-mod-accept").click()
    notebook.page.wait_for_selector(".eai-Panel-state[data-state=down]")
    assert "Ranks ·" not in notebook.panel()
    notebook.page.wait_for_selector('.jp-Notebook-ExecutionIndicator[data-status="idle"]')
    notebook.page.locator(".jp-CodeCell").first.click()
    notebook.run_cell()
    # It is up before and after the cell that plays a run, and busy in between.
    notebook.page.locator("#eai-notebook-panel").get_by_text("3 ranks ready").wait_for()
    notebook.page.wait_for_selector(".eai-Panel-state[data-state=up]")


def test_the_ranks_are_reached_by_keyboard_and_say_how_they_are(
    open_notebook: Callable[..., Notebook],
) -> None:
    notebook = open_notebook(PLAYER.format(ranks=10), "_ = player.play(1, 60, live=False)")
    notebook.run_cell()
    notebook.wait_cells(1)
    page = notebook.page
    ranks = page.get_by_role("region", name="Ranks")
    ranks.get_by_role("button", name="rank 0 on gpu1").focus()
    for _ in range(9):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    log = page.get_by_role("region", name="Log of rank 9")
    log.get_by_text("31 batches read").wait_for()
    assert "no GPU" in log.inner_text()
    assert "CPU 97 %" in log.inner_text()
    page.keyboard.press("Enter")
    log.wait_for(state="detached")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    shown = page.get_by_role("region", name="Log of rank 7").inner_text()
    assert "GPU 7 67 % · 31 GB of 80 GB" in shown
    # The tab key goes on to the next thing, not through all the ranks.
    page.keyboard.press("Tab")
    focused = page.evaluate(
        "(document.activeElement.ariaLabel || '') + document.activeElement.innerText"
    )
    assert focused
    assert "rank 8 on" not in focused
    assert "rank 6 on" not in focused


def test_the_code_of_a_button_can_be_inserted(open_notebook: Callable[..., Notebook]) -> None:
    notebook = open_notebook("1 + 1")
    notebook.page.get_by_label("Hosts").fill("gpu1:8,gpu2:8")
    notebook.page.get_by_role("button", name="Insert code").click()
    cells = notebook.save()["cells"]
    assert cells[1]["source"] == "%load_ext eai_notebook\n%eai up --hosts gpu1:8,gpu2:8"


def test_a_second_tab_shows_the_same_run(open_notebook: Callable[..., Notebook]) -> None:
    notebook = open_notebook(PLAYER.format(ranks=2), "player.play(60, 600, live=False)")
    notebook.run_cell()
    notebook.wait_cells(1)
    notebook.run_cell()
    notebook.wait_steps(20)
    second = notebook.second_tab()
    second.wait_ready(idle=False)
    second.wait_steps(30)
    notebook.wait_steps(30)
    assert "2 ranks running a cell" in second.panel()
    notebook.page.get_by_role("button", name="Stop", exact=True).click()
    notebook.wait_cells(2)
    second.page.wait_for_selector(".eai-Panel-state[data-state=up]")


def test_the_controls_in_the_notebook_follow_the_group_and_stop_a_cell(
    open_notebook: Callable[..., Notebook],
) -> None:
    notebook = open_notebook(
        PLAYER.format(ranks=2) + "\nimport eai_notebook as eai\n_ = eai.controls()",
        "player.play(60, 600, live=False)\nimport time\ntime.sleep(60)",
    )
    notebook.run_cell()
    notebook.wait_cells(1)
    controls = notebook.page.locator(".jp-OutputArea-output .widget-vbox")
    assert controls.get_by_role("button", name="Stop").is_disabled()
    notebook.run_cell()
    notebook.wait_steps(10)
    if kernel_release() < 7:
        assert controls.get_by_text("only the notebook's own Stop reaches a cell").is_visible()
        assert controls.get_by_role("button", name="Stop").is_disabled()
        notebook.page.evaluate("window.jupyterapp.commands.execute('notebook:interrupt-kernel')")
    else:
        controls.get_by_role("button", name="Stop").click()
    notebook.wait_cells(2)
    assert "KeyboardInterrupt" in notebook.page.locator(".jp-CodeCell").nth(1).inner_text()


def contrast(notebook: Notebook, selector: str) -> float:
    """Return the contrast of an element's text with the panel behind it (WCAG)."""
    return float(
        notebook.page.evaluate(
            """selector => {
                const numbers = c => c.match(/[\\d.]+/g).map(Number);
                const back = numbers(getComputedStyle(document.querySelector('.eai-Panel'))
                    .backgroundColor);
                const ink = numbers(getComputedStyle(document.querySelector(selector)).color);
                const alpha = ink[3] ?? 1;
                const mixed = [0, 1, 2].map(i => alpha * ink[i] + (1 - alpha) * back[i]);
                const light = c => [0.2126, 0.7152, 0.0722].reduce((sum, w, i) => {
                    const v = c[i] / 255;
                    return sum + w * (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
                }, 0);
                const [a, b] = [light(mixed), light(back)].sort((x, y) => y - x);
                return (a + 0.05) / (b + 0.05);
            }""",
            selector,
        )
    )
