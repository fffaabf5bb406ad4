"""Show a session's output in a notebook."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from IPython.display import DisplayHandle, display, publish_display_data

from eai_notebook.display import LiveRun
from eai_notebook.display.live_run import in_notebook
from eai_notebook.session import Watcher

if TYPE_CHECKING:
    from eai_notebook.display.panel_channel import PanelChannel


class NotebookWatcher(Watcher):
    """Shows a session in a notebook: text and figures in the cell, the ledger live, the panel."""

    def __init__(self, panel: PanelChannel) -> None:
        self._panel = panel
        self._live: dict[str, LiveRun] = {}
        self._awaited: LiveRun | None = None
        self._progress: DisplayHandle | None = None
        self._progress_text = ""

    def progress(self, text: str, *, final: bool = False) -> None:
        """Rewrite one line in place; a saved notebook keeps the last text only."""
        if not in_notebook():
            self._terminal_progress(text, final=final)
            return
        line = {"text/plain": text}
        if self._progress is None:
            self._progress = display(line, raw=True, display_id=True)
        elif text != self._progress_text:
            self._progress.update(line, raw=True)
        self._progress_text = text
        if final:
            self._progress = None

    def _terminal_progress(self, text: str, *, final: bool) -> None:
        """Rewrite one line of a terminal; a file or a pipe gets the last text only."""
        stream = sys.stdout
        if stream.isatty():
            stream.write(f"\r\x1b[K{text}" + "\n" * final)
        elif final:
            stream.write(f"{text}\n")
        stream.flush()

    def rich(self, label: str, content: dict[str, Any]) -> None:
        """Show a figure or a table below the ranks it comes from."""
        if label:
            self.text("stdout", f"{label}\n")
        publish_display_data(content["data"], content.get("metadata", {}))

    def group(self, model: dict[str, Any]) -> None:
        """Send the group's state to the panel."""
        self._panel.group(model)

    def run_awaited(self, name: str | None) -> None:
        """Keep the space of the picture of a run that comes, or give it up."""
        if name is None:
            if self._awaited is not None:
                self._panel.run_awaited("")
                self._awaited.give_up()
            self._awaited = None
        elif self._awaited is None and in_notebook():
            self._panel.run_awaited(name)
            self._awaited = LiveRun(name)
            self._awaited.prepare()

    def run(self, view: dict[str, Any], *, final: bool) -> None:
        """Draw the ledger below the cell and in the panel."""
        run = view["run"]
        self._panel.run(view)
        if run["id"] not in self._live:
            if final and run["steps"] == 0:
                return
            # Before its first step: what the training prints then stands below it, in one piece.
            self._live[run["id"]] = self._awaited or LiveRun(run["name"])
            self._awaited = None
        live = self._live[run["id"]]
        if final:
            live.finish(view)
            del self._live[run["id"]]
        else:
            live.update(view)
