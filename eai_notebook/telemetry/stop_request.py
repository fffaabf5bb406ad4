"""The kernel's request to this rank to end its training at a checkpoint; kept until that was done."""

from __future__ import annotations

_asked = False


def ask(*, on: bool = True) -> None:
    """Have the next training that can write a checkpoint do so and end; with `on=False`, go on."""
    global _asked
    _asked = on


def is_asked() -> bool:
    """Return whether this rank was asked."""
    return _asked
