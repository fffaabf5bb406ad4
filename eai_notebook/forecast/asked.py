"""Read what a forecast is asked for: numbers of ranks, and the rate of a link."""

from __future__ import annotations

import re
from typing import Final

from eai_notebook.errors import EaiError

_UNITS: Final = {"kbit": 125.0, "mbit": 125e3, "gbit": 125e6, "kb": 1e3, "mb": 1e6, "gb": 1e9}
"""Bytes a second."""


def rank_numbers(text: str) -> list[int]:
    """Return numbers of ranks, in order.

    Raises:
        EaiError: It is not a list of whole numbers from 1 on.

    Examples:
        >>> rank_numbers("16,8, 64")
        [8, 16, 64]
    """
    try:
        found = sorted({int(each) for each in text.split(",")})
    except ValueError:
        found = [0]
    if found[0] < 1:
        raise EaiError(
            f"{text!r} are no numbers of ranks", "write `-n 8,16,64`", code="forecast-ranks"
        )
    return found


def rate_of(text: str | None) -> float | None:
    """Return a rate in bytes a second; None for none.

    Raises:
        EaiError: It is not a number with a unit.

    Examples:
        >>> rate_of("25Gbit"), rate_of("10 MB/s"), rate_of(None)
        (3125000000.0, 10000000.0, None)
    """
    if text is None:
        return None
    found = re.fullmatch(r"\s*([\d.]+)\s*([a-z]+)(/s)?\s*", text, re.IGNORECASE)
    unit = None if found is None else _UNITS.get(found[2].lower())
    try:
        rate = float(found[1]) * unit if found and unit else 0.0
    except ValueError:
        rate = 0.0
    if not rate > 0:
        units = ", ".join(_UNITS)
        raise EaiError(
            f"{text!r} is no rate", f"write `25Gbit`; units: {units}", code="forecast-ranks"
        )
    return rate
