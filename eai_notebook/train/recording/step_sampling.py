"""Sample which steps are measured when steps are short.

A step's marks take some tens of microseconds of a processor, whatever its length, and what a
rank does later by that much may miss the exchange's next look for work. That is nothing in a
step of 100 ms and some percent of a step of 8 ms, of which a few a second show as much as
all: nobody can look at more, and means over them are means over all. How much longer a step
takes with marks is measured in the run itself, by the steps without.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

ENOUGH_S: Final = 0.1
"""Steps of this length, in seconds, and longer ones are all measured."""

MARKS_SHARE: Final = 0.0005
"""The share of a run's time that marks may take."""

SELDOM_S: Final = 1.0
"""But a step is measured this often, in seconds, whatever its marks cost."""

ASSUMED_S: Final = 3e-4
"""What marks cost a step with an exchange, in seconds, as long as the run has not shown it."""

_WINDOW: Final = 64
_FEWEST: Final = 16

_GOLDEN: Final = (math.sqrt(5) - 1) / 2


def stride(step_s: float, marks_s: float = 0.0) -> int:
    """Return how many steps of `step_s` seconds there are to one that is measured.

    ``marks_s`` is what the marks of a step cost, in seconds. A power of two: what one rank
    measures, then, one with a smaller stride measures too.

    Examples:
        >>> stride(0.3), stride(0.06), stride(0.012), stride(0.0)
        (1, 1, 8, 1)
        >>> stride(0.012, marks_s=1e-4), stride(0.3, marks_s=1e-4)
        (32, 1)
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


class MarksCost:
    """How much longer steps with marks are than steps without, by the lengths of both.

    ``least_s`` is what the marks take at least, in seconds: steps differ by chance, too.

    Examples:
        >>> cost = MarksCost(1e-5)
        >>> cost.note([0.0124] * 20, [0.0120] * 20)
        >>> round(cost.seconds, 6), MarksCost(1e-5).seconds
        (0.0004, 1e-05)
    """

    def __init__(self, least_s: float) -> None:
        self.least_s = least_s
        self._marked: deque[float] = deque(maxlen=_WINDOW)
        self._plain: deque[float] = deque(maxlen=_WINDOW)

    def note(self, marked: Iterable[float], plain: Iterable[float]) -> None:
        """Add lengths of steps with and without marks, in seconds."""
        self._marked.extend(marked)
        self._plain.extend(plain)

    @property
    def is_known(self) -> bool:
        """Whether there are enough of both to say it."""
        return min(len(self._marked), len(self._plain)) >= _FEWEST

    @property
    def seconds(self) -> float:
        """The difference of the medians; what the marks take at least where it is not known."""
        if not self.is_known:
            return self.least_s
        longer = statistics.median(self._marked) - statistics.median(self._plain)
        return max(self.least_s, longer)
