"""Tensors that some ranks have sent and others have not, as messages to the kernel.

A rank inside a compiled step cannot be seen from outside, but the collective backend knows which
tensors it waits for.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from eai_notebook import collective
from eai_notebook.collective.membership import members
from eai_notebook.collective.tensor_names import describe
from eai_notebook.telemetry import messages

if TYPE_CHECKING:
    from eai_notebook.collective.backend import Missing

_latest: tuple[float, messages.TensorsMissing] | None = None


def note(report: messages.TensorsMissing) -> None:
    """Keep `report`, and send it with the running cell's output, if a cell runs here."""
    global _latest
    _latest = time.monotonic(), report
    messages.emit(report)


def latest() -> tuple[float, messages.TensorsMissing] | None:
    """Return the last report with its age in seconds: also one that came after the cell."""
    return None if _latest is None else (time.monotonic() - _latest[0], _latest[1])


def send(missing: Missing) -> None:
    """Send the tensors that each rank of the ring has not sent, as the user knows them."""
    ring = members()
    named = {
        ring[rank]: tuple(dict.fromkeys(map(describe, tensors)))
        for rank, tensors in missing.items()
        if rank < len(ring)
    }
    note(messages.TensorsMissing(ring, named))


def install() -> None:
    """Send the backend's reports from now on."""
    collective.watch_missing(send)
