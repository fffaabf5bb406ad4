"""One JupyterLab and one Chromium for all browser tests."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from browser.lab import VIEWPORT, Lab, Notebook, chromium, what_is_missing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser, Page


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


class SharedPage:
    """A page in which JupyterLab runs: loading it takes a multiple of what a notebook in it does."""

    def __init__(self, lab: Lab, browser: Browser) -> None:
        self._lab, self._browser = lab, browser
        self._page: Page | None = None

    def open(self, cells: tuple[str, ...], name: str) -> Notebook:
        """Return a new notebook in the page."""
        if self._page is not None:
            page, self._page = self._page, None  # given up, unless the notebook opens in it
            notebook = Notebook(self._lab, page, cells, name, beside=True)
            self._page = page
            return notebook
        notebook = self.open_apart(cells, name)
        self._page = notebook.page
        return notebook

    def open_apart(self, cells: tuple[str, ...], name: str) -> Notebook:
        """Return a new notebook in a page of its own."""
        page = self._browser.new_context(viewport=VIEWPORT).new_page()
        return Notebook(self._lab, page, cells, name)

    def leave(self, notebook: Notebook, *, is_sound: bool) -> None:
        """End a notebook; the page of a test that failed is given up."""
        if is_sound and notebook.page is self._page:
            notebook.leave()
            return
        if notebook.page is self._page:
            self._page = None
        notebook.close()


@pytest.fixture(scope="session")
def shared_page(lab: Lab, browser: Browser) -> SharedPage:
    """Return the page that tests open their notebooks in, one after another."""
    return SharedPage(lab, browser)


@pytest.fixture
def open_notebook(
    shared_page: SharedPage, request: pytest.FixtureRequest
) -> Iterator[Callable[..., Notebook]]:
    """Return what opens a notebook of the given cells; a test's second one has a page of its own.

    So has, with `apart`, one whose test changes what the page itself has.
    """
    opened: list[Notebook] = []
    failed = request.session.testsfailed

    def open_it(*cells: str, name: str = "", apart: bool = False) -> Notebook:
        open_one = shared_page.open_apart if opened or apart else shared_page.open
        opened.append(open_one(cells, name or f"n{time.time_ns()}"))
        return opened[-1]

    yield open_it
    for notebook in reversed(opened):
        shared_page.leave(notebook, is_sound=request.session.testsfailed == failed)
