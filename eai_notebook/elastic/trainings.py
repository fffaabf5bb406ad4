"""The number of an elastic training within its cell: a newcomer must join the same one."""

from __future__ import annotations

from eai_notebook.telemetry import messages

_begun = 0


def begin() -> int:
    """Note that one begins; return which of its cell it is, from 1."""
    global _begun
    _begun += 1
    return _begun


def _forget(_outcome: str) -> None:
    global _begun
    _begun = 0


messages.on_cell_end(_forget)
