"""The panel in Notebook 7, which shows one document at a time and its panels on demand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from browser.lab import Lab, Notebook, what_is_missing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser

pytestmark = pytest.mark.browser


@pytest.fixture
def notebook7(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    if reason := what_is_missing():
        pytest.skip(reason)
    server = Lab(tmp_path_factory.mktemp("notebook7"), "notebook")
    yield server
    server.stop()


def test_a_run_is_shown_and_stopped_beside_the_one_document(
    notebook7: Lab, browser: Browser
) -> None:
    page = browser.new_context(viewport={"width": 1400, "height": 900}).new_page()
    cells = "from player import Player\nplayer = Player(4)", "player.play(60, 400)"
    notebook = Notebook(notebook7, page, cells, "one")
    try:
        page.evaluate("window.jupyterapp.shell.collapse('right')")
        page.locator("#eai-notebook-panel").wait_for(state="hidden")
        page.get_by_role("button", name="Ranks", exact=True).click()
        page.locator("#eai-notebook-panel").wait_for()
        notebook.watch_a_run("notebook7")
        page.get_by_role("button", name="Stop", exact=True).click()
        notebook.wait_cells(2)
        notebook.wait_said("4 ranks ready")
        assert notebook.outside == []
    finally:
        notebook.close()
