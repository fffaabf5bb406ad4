"""Colours of the ledger that belong to no part, the same in every display."""

from __future__ import annotations

from typing import Final

UNMEASURED: Final = "#808080"
"""Of the outline around time that no part explains, such as the step that compiles."""
