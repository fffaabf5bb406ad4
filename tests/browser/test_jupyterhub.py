"""The panel behind a real JupyterHub: another address, a login, a proxy between page and kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from browser.hub import Hub, what_hub_is_missing
from browser.lab import VIEWPORT, Notebook, what_is_missing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    if reason := what_is_missing() or what_hub_is_missing():
        pytest.skip(reason)
    server = Hub(tmp_path_factory.mktemp("hub"))
    yield server
    server.stop()


def test_a_run_is_shown_and_stopped_behind_a_hub(hub: Hub, browser: Browser) -> None:
    page = browser.new_context(viewport=VIEWPORT).new_page()
    hub.log_in(page)
    cells = "from player import Player\nplayer = Player(4)", "player.play(60, 400)"
    notebook = Notebook(hub, page, cells, "behind")
    try:
        notebook.watch_a_run("jupyterhub")
        # A reloaded page finds the run again through the proxy.
        notebook.reload()
        notebook.wait_ready(idle=False)
        notebook.wait_steps(60)
        page.get_by_role("button", name="Stop", exact=True).click()
        notebook.wait_said("4 ranks ready")
        assert notebook.outside == []
    finally:
        notebook.close()
