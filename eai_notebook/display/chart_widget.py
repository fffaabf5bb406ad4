"""The live chart under a running cell: an anywidget drawn by the panel's chart module."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

SCRIPT: Final = Path(__file__).parent.parent / "static" / "widget.js"
"""Built from ``labextension/src/widget.ts``; a clone that was not built has none."""


def ledger_widget(view: dict[str, Any]) -> Any | None:
    """Return a widget whose ``view`` can be set again and again; None if it was not built.

    The class is made here, when first needed: importing the package must not wait for
    the widget machinery.
    """
    if not SCRIPT.exists():
        return None
    import anywidget
    import traitlets

    class LedgerWidget(anywidget.AnyWidget):  # type: ignore[misc,unused-ignore]
        """Draws the view of a run, and redraws it when ``view`` is set."""

        _esm = SCRIPT
        view = traitlets.Dict().tag(sync=True)

    return LedgerWidget(view=view)
