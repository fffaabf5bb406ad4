"""Limits and labels of an axis; `labextension/src/axis.ts` does the same."""

from __future__ import annotations

from math import floor, log10


def robust_top(lengths: list[float]) -> float:
    """Return the top of an axis on which most bars can be read.

    The first step compiles and may be a thousand times longer than the rest: such bars
    are cut at the top and marked, instead of flattening all others.

    Examples:
        >>> round(robust_top([2500.0, 10.0, 11.0]), 3), robust_top([9.0, 10.0, 11.0]), robust_top([])
        (14.3, 11.0, 1.0)
    """
    if not lengths:
        return 1.0
    ordered = sorted(lengths)
    usual = ordered[-1] if len(ordered) == 1 else ordered[min(len(ordered) - 2, _ninth(ordered))]
    return (ordered[-1] if ordered[-1] <= 2 * usual else 1.3 * usual) or 1.0


def ticks(top: float, count: int) -> list[float]:
    """Return round numbers from 0 to `top`, about `count` of them.

    Examples:
        >>> ticks(16.5, 4), ticks(0.9, 3)
        ([0.0, 5.0, 10.0, 15.0], [0.0, 0.5])
    """
    raw = top / count
    power = 10.0 ** floor(log10(raw))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= raw)
    return [round(step * i, 10) for i in range(int(top / step + 1e-9) + 1)]


def _ninth(ordered: list[float]) -> int:
    return floor(0.9 * (len(ordered) - 1))
