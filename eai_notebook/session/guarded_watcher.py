"""A watcher whose failures end no cell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eai_notebook.bookkeeping import DISPLAY, PANEL, Bookkeeping
from eai_notebook.session.observer import Watcher

if TYPE_CHECKING:
    from collections.abc import Callable


class GuardedWatcher(Watcher):
    """Passes everything on to `watcher`; what fails there is reported through it, if it can be.

    Attributes:
        books: The guard, for what else is kept or shown beside a cell.
    """

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher
        self.books = Bookkeeping(lambda line: watcher.text("stderr", line + "\n"))

    def progress(self, words: str, *, final: bool = False) -> None:
        """Pass it on."""
        with self.books.doing(DISPLAY):
            self._watcher.progress(words, final=final)

    def text(self, stream: str, text: str) -> None:
        """Pass it on."""
        with self.books.doing(DISPLAY):
            self._watcher.text(stream, text)

    def rich(self, label: str, content: dict[str, Any]) -> None:
        """Pass it on."""
        with self.books.doing(DISPLAY):
            self._watcher.rich(label, content)

    def group(self, model: dict[str, Any]) -> None:
        """Pass it on."""
        with self.books.doing(PANEL):
            self._watcher.group(model)

    def group_from(self, model: Callable[[], dict[str, Any]]) -> None:
        """Pass on what ``model()`` returns; it may fail as well."""
        with self.books.doing(PANEL):
            self._watcher.group(model())

    def run_awaited(self, name: str | None) -> None:
        """Pass it on."""
        with self.books.doing(DISPLAY):
            self._watcher.run_awaited(name)

    def run(self, view: dict[str, Any], *, final: bool) -> None:
        """Pass it on."""
        with self.books.doing(DISPLAY):
            self._watcher.run(view, final=final)
