"""Parse the short notation of a schedule: rates, and the epochs between them."""

from __future__ import annotations

import math

from eai_notebook.errors import EaiError

_FORM = "write rate;epoch;rate;epoch;rate..., as in 0.1;5;3.2;30;0.32"


def read(text: str) -> tuple[list[float], list[float]]:
    """Return the rates in `text` and the epochs between them, one fewer.

    Raises:
        EaiError: An item is no number, is negative, or is out of order.

    Examples:
        >>> read("0.1;5;3.2;30;0.32")
        ([0.1, 3.2, 0.32], [5.0, 30.0])
    """
    items = text.split(";")
    numbers = [_number(item, position, text) for position, item in enumerate(items, 1)]
    if len(items) % 2 == 0:
        raise EaiError(
            f"schedule {text!r} ends with epoch {items[-1].strip()!r} and no rate after it",
            _FORM,
            code="schedule-invalid",
        )
    rates, epochs = numbers[0::2], numbers[1::2]
    for index in range(1, len(epochs)):
        if epochs[index] <= epochs[index - 1]:
            raise EaiError(
                f"item {2 * index + 2} of schedule {text!r}, epoch {epochs[index]:g}, does not "
                f"come after epoch {epochs[index - 1]:g}",
                "write the epochs in rising order",
                code="schedule-invalid",
            )
    return rates, epochs


def _number(item: str, position: int, text: str) -> float:
    kind = "epoch" if position % 2 == 0 else "rate"
    try:
        value = float(item)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value < 0:
        raise EaiError(
            f"item {position} of schedule {text!r}, {item.strip()!r}, is no {kind} of 0 or more",
            _FORM,
            code="schedule-invalid",
        )
    return value
