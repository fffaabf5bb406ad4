"""Displays of a run: live chart, static HTML, plain text, messages to the panel.

Displays draw the view of a run (`ledger.view`) and never ask a rank for anything.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from eai_notebook.display.live_run import LiveRun, bundle, display, in_ipython
from eai_notebook.display.plain_text import text

if TYPE_CHECKING:
    from eai_notebook.ledger.run_record import RunRecord

__all__ = ["LiveRun", "bundle", "show", "text"]


def show(run: RunRecord | Path | str | None = None) -> None:
    """Show the chart of a recorded run: a record, its folder, or by default the latest.

    Raises `EaiError` if there is no such record.
    """
    from eai_notebook.errors import EaiError
    from eai_notebook.ledger.run_record import RunRecord, list_runs, runs_folder
    from eai_notebook.ledger.view_model import record_view

    if run is None:
        recorded = list_runs()
        if not recorded:
            raise EaiError(
                f"no run is recorded in {runs_folder()}", "train something first", code="no-run"
            )
        run = recorded[0]
    view = record_view(run if isinstance(run, RunRecord) else RunRecord(Path(run)))
    if in_ipython():
        display(bundle(view), raw=True)
    else:
        print(text(view))  # noqa: T201 - a terminal is printed to


class _Room(ModuleType):
    """A room that can be called: ``eai.display(run)`` is ``eai.show(run)``."""

    def __call__(self, run: RunRecord | Path | str | None = None) -> None:
        show(run)


sys.modules[__name__].__class__ = _Room
