"""`Watcher`: the interface of a session's observers; they show and change nothing."""

from __future__ import annotations

import sys
from typing import Any


class Watcher:
    """Prints what the ranks print, and is otherwise silent: the watcher of a plain script.

    A notebook overrides the methods it can show better. All are called from the thread
    that runs the session.
    """

    def progress(self, words: str, *, final: bool = False) -> None:
        """Take note of how a long start goes; the `final` words say what came of it."""

    def text(self, stream: str, text: str) -> None:
        """Take `text` for ``"stdout"`` or ``"stderr"``, ready to be written as it is."""
        target = sys.stderr if stream == "stderr" else sys.stdout
        target.write(text)
        target.flush()

    def rich(self, label: str, content: dict[str, Any]) -> None:
        """Take a display message (``data`` and ``metadata`` by MIME type) of some ranks."""
        self.text("stdout", f"{label}{content['data'].get('text/plain', '')}\n")

    def group(self, model: dict[str, Any]) -> None:
        """Take the state of the group (the panel's group model)."""

    def run_awaited(self, name: str | None) -> None:
        """Take note that a training gets ready, whose run comes; None if it did not come to that."""

    def run(self, view: dict[str, Any], *, final: bool) -> None:
        """Take a run's view while it goes on, and once more when it has ended."""
