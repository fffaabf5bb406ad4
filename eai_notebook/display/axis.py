"""Limits and labels of an axis; `labextension/src/axis.ts` does the same."""

from __future__ import annotations

from math import floor, log10
from typing import Any, Final

FEWEST_SLOTS: Final = 48
"""A short run leaves room to the right instead of drawing bars as wide as a hand."""

USUAL_SHARE: Final = 0.9
"""This share of the bars is at most as long as a usual one."""

LONG: Final = 2
"""A bar so many times longer than a usual one is cut at the top."""

HEADROOM: Final = 1.3
"""The axis is then so many times as long as a usual bar."""


def bar_lengths(buckets: dict[str, Any]) -> list[float]:
    """Return how long a step is in each bucket, in ms: its parts and what was not measured."""
    return [
        sum(part or 0.0 for part in bar) + (missing or 0.0)
        for bar, missing in zip(buckets["ms"], buckets["unmeasured_ms"], strict=True)
    ]


def step_span(buckets: dict[str, Any]) -> tuple[int, int]:
    """Return the first step of the axis, and how many steps it spans.

    Examples:
        >>> step_span({"step": [0, 1], "stop": [1, 2]}), step_span({"step": [0], "stop": [6188]})
        ((0, 48), (0, 6188))
    """
    first = buckets["step"][0]
    return first, max(buckets["stop"][-1] - first, FEWEST_SLOTS)


def step_ticks(first: int, span: int, count: int) -> list[int]:
    """Return the true step numbers to label, about `count` of them, none too far to the right.

    Examples:
        >>> step_ticks(0, 6188, 5), step_ticks(100, 48, 5), step_ticks(3, 48, 3)
        ([0, 2000, 4000, 6000], [100, 110, 120, 130, 140], [3, 20, 40])
    """
    apart = max(1, round((ticks(span, count)[1:] or [span])[0]))
    least, most = first + 0.5 * apart, first + 0.97 * span
    rounds = range(apart * (first // apart + 1), floor(most) + 1, apart)
    return [first, *(step for step in rounds if step >= least)]


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
    return (ordered[-1] if ordered[-1] <= LONG * usual else HEADROOM * usual) or 1.0


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
    return floor(USUAL_SHARE * (len(ordered) - 1))
