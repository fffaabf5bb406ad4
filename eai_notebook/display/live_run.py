"""The chart of a run under its cell: live while it runs, static when it has ended.

While the run goes on the output is a bundle: the view for JupyterLab with our extension,
which draws it and follows the run by what the panel is sent anyway; the same picture as
HTML and as text for everybody else. So a page that is reloaded, a notebook that is exported
in the middle of a run and a front end that knows nothing of us all show a picture.
"""

from __future__ import annotations

import time
import uuid
from typing import Any, Final

from eai_notebook.display.plain_text import text
from eai_notebook.display.static_html import html

RUN_MIME: Final = "application/vnd.eai-notebook.run+json"
"""What our front end draws; `tools/generate_front.py` passes it on."""

REFRESH_S: Final = 1.0
"""The HTML is renewed this often where no front end of ours follows the run by itself."""

SAVED_S: Final = 10.0
"""And this often where one does: it is what a saved notebook holds of a run that goes on."""

_followed = False


def note_front_end() -> None:
    """Note that our front end is there: it draws a run's output by itself."""
    global _followed
    _followed = True


class LiveRun:
    """The display of one run: `update` it while the run goes, then `finish` it.

    Call it from the thread that runs the cell, at most a few times a second. In a
    notebook it is a live chart, replaced by HTML at the end so that the saved notebook
    keeps it; in a terminal it is the text, once, at the end; without IPython nothing.
    """

    def __init__(self, title: str) -> None:
        """Prepare a display with a title; nothing is shown before the first `update`."""
        self.title = title
        self._id = f"eai-run-{uuid.uuid4().hex[:12]}"
        self._shown = False
        self._next = 0.0

    def prepare(self) -> None:
        """Keep the space of the picture while the training gets ready."""
        self._show({"text/plain": f"{self.title}: getting ready, compiling the first step"})

    def give_up(self) -> None:
        """Leave in its space that the training ended before its first step."""
        self._show({"text/plain": f"{self.title} ended before its first step"})

    def update(self, view: dict[str, Any]) -> None:
        """Show the run as it is now."""
        if not in_notebook() or time.monotonic() < self._next:
            return
        self._show({RUN_MIME: view, **bundle(view)})
        self._next = time.monotonic() + (SAVED_S if _followed else REFRESH_S)

    def finish(self, view: dict[str, Any]) -> None:
        """Put the static twin in its place; of a run without a step there is no picture."""
        if view["run"]["steps"] == 0:
            if self._shown:
                self.give_up()
        elif in_notebook():
            self._show(bundle(view))
        elif in_ipython():
            print(text(view))  # noqa: T201 - a terminal is printed to

    def _show(self, data: dict[str, Any]) -> None:
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
