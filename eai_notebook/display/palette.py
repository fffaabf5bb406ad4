"""Colours of the ledger that belong to no part, the same in every display."""

from __future__ import annotations

from typing import Final

UNMEASURED: Final = "#808080"
"""Of the outline around time that no part explains, such as the step that compiles."""

OVERLAY: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Of runs that are shown together: Okabe and Ito's colours, which most eyes keep apart."""
