"""Colours of the ledger's parts, the same in every display.

Okabe and Ito's set, which people with any colour vision can tell apart; the parts are
also always drawn and listed in one order, so that colour is never the only sign.
"""

from __future__ import annotations

from typing import Final

COLOURS: Final = {
    "input": "#E69F00",
    "compute": "#009E73",
    "wait_peer": "#D55E00",
    "transfer": "#0072B2",
    "update": "#CC79A7",
    "other": "#999999",
}

UNMEASURED: Final = "#808080"
"""Of the outline around time that no part explains, such as the step that compiles."""

MEANINGS: Final = {
    "input": "blocked waiting for the next batch",
    "compute": "forward and backward, until the local gradients are ready",
    "wait_peer": "gradients ready here, a slower rank not there yet",
    "transfer": "communication after the last rank was ready",
    "update": "applying the reduced gradients",
    "other": "the rest: callbacks, making iterators, compiling, garbage collection, Python",
}
