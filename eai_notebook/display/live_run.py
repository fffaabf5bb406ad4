"""The chart of a run under its cell: live while it runs, static when it has ended."""

from __future__ import annotations

import uuid
from typing import Any

from eai_notebook.display.chart_widget import ledger_widget
from eai_notebook.display.plain_text import text
from eai_notebook.display.static_html import html


class LiveRun:
    """The display of one run: `update` it while the run goes, then `finish` it.

    Call it from the thread that runs the cell, at most a few times a second. In a
    notebook it is a widget, replaced by HTML at the end so that the saved notebook keeps
    the chart; in a terminal it is the text, once, at the end; without IPython nothing.
    """

    def __init__(self, title: str) -> None:
        """Prepare a display with a title; nothing is shown before the first `update`."""
        self.title = title
        self._id = f"eai-run-{uuid.uuid4().hex[:12]}"
        self._widget: Any = None
        self._shown = False

    def update(self, view: dict[str, Any]) -> None:
        """Show the run as it is now."""
        if not in_notebook():
            return
        if self._widget is not None:
            self._widget.view = view
            return
        if not self._shown:
            self._widget = ledger_widget(view)
        if self._widget is None:
            self._show(bundle(view))
            return
        display(self._widget, display_id=self._id)
        self._shown = True

    def finish(self, view: dict[str, Any]) -> None:
        """Put the static twin in the widget's place."""
        if in_notebook():
            self._show(bundle(view))
        elif in_ipython():
            print(text(view))  # noqa: T201 - a terminal is printed to
        if self._widget is not None:
            # JupyterLab would otherwise save its state, script included, in the notebook.
            self._widget.close()
            self._widget = None

    def _show(self, data: dict[str, str]) -> None:
        display(data, raw=True, display_id=self._id, update=self._shown)
        self._shown = True


def bundle(view: dict[str, Any]) -> dict[str, str]:
    """Return the static twin in the formats that front ends and exporters choose from."""
    return {"text/html": html(view), "text/plain": text(view)}


def display(thing: Any, **how: Any) -> None:
    """Show a thing, or a bundle of formats if ``raw`` is true, with IPython's `display`."""
    from IPython import display as ipython

    show: Any = ipython.display
    show(thing, **how)


def in_ipython() -> bool:
    """Return whether IPython runs this code."""
    return shell() is not None


def in_notebook() -> bool:
    """Return whether a Jupyter kernel runs this code."""
    return getattr(shell(), "kernel", None) is not None


def shell() -> Any:
    """Return the IPython that runs this code, or None."""
    from IPython.core.getipython import get_ipython

    return get_ipython()
