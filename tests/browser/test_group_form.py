"""The form that starts a group, and the buttons that end one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from browser.lab import Notebook

pytestmark = pytest.mark.browser

SESSION = "%load_ext eai_notebook"
HELD = """from pathlib import Path
import os
script = Path("mpirun").absolute()
script.write_text("#!/bin/sh\\ntouch held\\nexec sleep 900\\n")
script.chmod(0o700)
os.environ["EAI_MPIRUN"] = str(script)"""
"""A start that goes on until it is cancelled, however quick the ranks of others would be."""

PLAYER = "from player import Player\nplayer = Player(2)"


def test_the_ranks_field_keeps_what_is_typed_and_says_what_is_wrong_with_it(
    open_notebook: Callable[..., Notebook],
) -> None:
    page = open_notebook("1 + 1").page
    form = page.locator(".eai-Panel-form")
    ranks = form.get_by_label("Ranks")
    start = form.get_by_role("button", name="Start", exact=True)
    insert = form.get_by_role("button", name="Insert code")
    ranks.click()
    page.keyboard.press("End")
    page.keyboard.press("Backspace")
    page.keyboard.type("4")
    assert ranks.input_value() == "4"
    assert start.is_enabled()
    for typed in ("", "0", "2.5", "1100", "two"):
        ranks.fill(typed)
        assert ranks.input_value() == typed
        form.get_by_text("1 to 512").wait_for()
        assert ranks.get_attribute("aria-invalid") == "true"
        assert start.is_disabled()
        assert insert.is_disabled()
    ranks.fill("3")
    assert form.get_by_text("1 to 512").count() == 0
    ranks.fill("500")
    form.get_by_text("500 ranks: they share").wait_for()
    form.get_by_text("of memory, and").wait_for()
    assert start.is_enabled()  # a warning, no refusal
    form.get_by_label("Hosts").fill("gpu1:8, gpu2:0")
    form.get_by_text("“gpu2:0” is not a host").wait_for()
    assert start.is_disabled()


def test_a_start_that_fails_leaves_the_form_as_it_was_filled_in(
    open_notebook: Callable[..., Notebook],
) -> None:
    notebook = open_notebook(SESSION)
    notebook.run_cell()
    notebook.wait_cells(1)
    page = notebook.page
    form = page.locator(".eai-Panel-form")
    form.get_by_label("Ranks").fill("3")
    form.get_by_label("Hosts").fill("nowhere.invalid:2")
    form.get_by_role("button", name="Start", exact=True).click()
    alert = page.locator("#eai-notebook-panel").get_by_role("alert")
    alert.wait_for()
    assert "nowhere.invalid" in alert.inner_text()
    assert form.get_by_label("Hosts").input_value() == "nowhere.invalid:2"
    notebook.screenshot("form-error-light", "#eai-notebook-panel")
    form.get_by_label("Hosts").fill("")
    assert form.get_by_label("Ranks").input_value() == "3"


@pytest.mark.ranks
@pytest.mark.slow
def test_a_start_can_be_cancelled_and_leaves_nothing(
    open_notebook: Callable[..., Notebook],
) -> None:
    notebook = open_notebook(
        f"{SESSION}\n{HELD}",
        "import psutil\n[p.name() for p in psutil.Process().children(recursive=True)]",
    )
    notebook.run_cell()
    notebook.wait_cells(1)
    page = notebook.page
    page.get_by_role("button", name="Start", exact=True).click()
    cancel = page.get_by_role("button", name="Cancel", exact=True)
    cancel.wait_for()
    page.locator(".eai-Panel-elapsed").wait_for()
    assert wait_until((notebook.lab.root / "held").exists)
    notebook.screenshot("starting-light", "#eai-notebook-panel")
    cancel.click()
    page.get_by_role("button", name="Start", exact=True).wait_for()
    assert "No group is running" in notebook.panel()
    notebook.run_cell()
    notebook.wait_cells(2)
    assert "sleep" not in page.locator(".jp-CodeCell").nth(1).inner_text()


def test_a_run_is_not_ended_by_restart_or_shut_down_without_a_question(
    open_notebook: Callable[..., Notebook],
) -> None:
    notebook = open_notebook(PLAYER, "print(player.play(60, 600, live=False))")
    notebook.run_cell()
    notebook.wait_cells(1)
    notebook.run_cell()
    notebook.wait_steps(10)
    page = notebook.page
    dialog = page.locator(".jp-Dialog")
    for action in ("Restart", "Shut down"):
        page.get_by_role("button", name=action, exact=True).click()
        dialog.wait_for()
        assert "wide_deep" in dialog.inner_text()
        notebook.screenshot("confirm-light")
        dialog.get_by_role("button", name="Cancel").click()
        dialog.wait_for(state="detached")
        assert notebook.is_running()
    page.get_by_role("button", name="Stop", exact=True).click()
    notebook.wait_cells(2)
    said = page.locator(".jp-CodeCell").nth(1).inner_text()
    assert "down" not in said
    assert "restart" not in said
