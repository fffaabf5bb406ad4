"""One JupyterLab and one Chromium for all browser tests."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from browser.lab import Lab, Notebook, chromium, what_is_missing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Return a headless Chromium."""
    if reason := what_is_missing():
        pytest.skip(reason)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=chromium(),
            args=["--no-sandbox", "--disable-gpu"],
        )
        yield started
        started.close()


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Return a running JupyterLab whose root is a folder of its own."""
    if reason := what_is_missing():
        pytest.skip(reason)
    server = Lab(tmp_path_factory.mktemp("lab"))
    yield server
    server.stop()


@pytest.fixture
def open_notebook(lab: Lab, browser: Browser) -> Iterator[Callable[..., Notebook]]:
    """Return what opens a notebook of the given cells in a new page."""
    opened: list[Notebook] = []

    def open_it(*cells: str, name: str = "") -> Notebook:
        context = browser.new_context(viewport={"width": 1400, "height": 900})
        opened.append(Notebook(lab, context.new_page(), cells, name or f"n{time.time_ns()}"))
        return opened[-1]

    yield open_it
    for notebook in opened:
        notebook.close()
