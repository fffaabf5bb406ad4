"""Sample which steps are measured when steps are short.

A step's marks cost some tens of microseconds, whatever its length. That is nothing in a
step of 100 ms and one percent of a step of 8 ms, of which ten a second show as much as
all: nobody can look at more, and means over them are means over all.
"""

from __future__ import annotations

import math
from typing import Final

ENOUGH_S: Final = 0.1
"""Steps of this length, in seconds, and longer ones are all measured."""

_GOLDEN: Final = (math.sqrt(5) - 1) / 2


def stride(step_s: float) -> int:
    """Return how many steps of `step_s` seconds there are to one that is measured.

    A power of two: what one rank measures, then, a faster one measures too.

    Examples:
        >>> stride(0.3), stride(0.06), stride(0.012), stride(0.0)
        (1, 1, 8, 1)
    """
    if not 0 < step_s < ENOUGH_S:
        return 1
    return 1 << int(math.log2(ENOUGH_S / step_s))


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
