"""The gain that a remedy is expected to bring: milliseconds a step, with an interval.

Two things are uncertain. How well a remedy works is a range of shares of the time it acts on, from
the least to the most; how long that time is, is known from the measured steps, with the spread of
the means of blocks of neighbouring steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from eai_notebook.ledger.arrays import mean

if TYPE_CHECKING:
    from eai_notebook.ledger.arrays import Floats

BLOCKS: Final = 10
"""Blocks of neighbouring steps; steps are not independent of each other."""

_WIDE: Final = 2.26
"""Student's t for a 95 % interval of the mean of `BLOCKS` blocks."""


@dataclass(frozen=True)
class Effect:
    """Which share of a time a remedy saves: expected, at least and at most.

    Examples:
        >>> Effect(0.75, 0.5, 1.0).expected
        0.75
    """

    expected: float
    least: float
    most: float


@dataclass(frozen=True)
class Gain:
    """Seconds a step that a remedy saves: ``expected``, and an interval from ``low`` to ``high``."""

    expected: float
    low: float
    high: float


def gain(by_step: Floats, effect: Effect, limit: float) -> Gain:
    """Return what is gained by an effect on a time whose lengths by step are ``by_step[S]``.

    Lengths are in seconds; NaN was not measured. ``limit`` is the whole loss: no remedy for it
    saves more.

    Examples:
        >>> import numpy as np
        >>> found = gain(np.full(40, 0.010), Effect(0.5, 0.25, 0.75), limit=0.006)
        >>> [round(each, 6) for each in (found.expected, found.low, found.high)]
        [0.005, 0.0025, 0.006]
    """
    known = by_step[np.isfinite(by_step)]
    length = float(known.mean()) if len(known) else 0.0
    blocks = np.array([float(mean(block)) for block in np.array_split(known, BLOCKS) if len(block)])
    doubt = _WIDE * float(blocks.std(ddof=1)) / len(blocks) ** 0.5 if len(blocks) > 1 else 0.0

    def held(seconds: float) -> float:
        return float(min(max(seconds, 0.0), limit))

    return Gain(
        held(effect.expected * length),
        held(effect.least * max(length - doubt, 0.0)),
        held(effect.most * (length + doubt)),
    )
