"""Sample which steps are measured when steps are short.

A step's marks cost some tens of microseconds, whatever its length. That is nothing in a
step of 100 ms and one percent of a step of 8 ms, of which ten a second show as much as
all: nobody can look at more, and means over them are means over all. Where ten a second
would still cost more than `MARKS_SHARE` of the time, fewer are measured.
"""

from __future__ import annotations

import math
from typing import Final

ENOUGH_S: Final = 0.1
"""Steps of this length, in seconds, and longer ones are all measured."""

MARKS_SHARE: Final = 0.001
"""The share of a run's time that marks may take."""

SELDOM_S: Final = 0.5
"""But a step is measured this often, in seconds, whatever its marks cost."""

_GOLDEN: Final = (math.sqrt(5) - 1) / 2


def stride(step_s: float, marks_s: float = 0.0) -> int:
    """Return how many steps of `step_s` seconds there are to one that is measured.

    ``marks_s`` is what the marks of a step cost, in seconds. A power of two: what one rank
    measures, then, one with a smaller stride measures too.

    Examples:
        >>> stride(0.3), stride(0.06), stride(0.012), stride(0.0)
        (1, 1, 8, 1)
        >>> stride(0.012, marks_s=1e-4), stride(0.3, marks_s=1e-4)
        (16, 1)
    """
    if not step_s > 0:
        return 1
    by_number = int(math.log2(max(1.0, ENOUGH_S / step_s)))
    by_cost = math.ceil(math.log2(max(1.0, marks_s / (MARKS_SHARE * step_s))))
    by_cost = min(by_cost, int(math.log2(max(1.0, SELDOM_S / step_s))))
    return 1 << max(by_number, by_cost)


def is_measured(step: int, every: int) -> bool:
    """Return whether step number `step` is one of those to measure, one in `every`.

    Multiples of the golden ratio, without their whole parts, fall evenly and in no
    rhythm (H. Weyl, 1916): an input that stalls every eighth step is neither always met
    nor always missed.

    Examples:
        >>> [step for step in range(30) if is_measured(step, 8)]
        [0, 5, 13, 18, 26]
    """
    return every == 1 or (step * _GOLDEN) % 1.0 < 1 / every
