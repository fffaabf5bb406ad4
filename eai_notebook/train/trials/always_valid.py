"""A sequential test: an interval of a mean that holds at every look, however often one looks.

Stopping a comparison as soon as a usual interval leaves out zero finds a gain in many a comparison
of equals. A confidence sequence does not: the chance that it ever misses the mean is at most
`alpha`, over all looks together (T. L. Lai, "On Confidence Sequences", Annals of Statistics 4,
1976; for A/B tests R. Johari, P. Koomen, L. Pekelis and D. Walsh, "Always Valid Inference",
Operations Research 70, 2022). The one here is the mixture sequential ratio test of Gaussian
differences whose spread is not known: the ratio depends on Student's t alone, so it is exact from
the second difference on and does not have to wait until a spread is known well.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

ALPHA: Final = 0.01
"""The chance that the interval ever leaves out the mean."""

MIXTURE: Final = 10.0
"""The variance of the effects, in units of the differences' own, that the mixture is over.

Any number is valid; effects of about three times the spread are found after the fewest looks."""


def interval(
    differences: Sequence[float], alpha: float = ALPHA, mixture: float = MIXTURE
) -> tuple[float, float]:
    """Return the interval of the mean that all differences so far leave, at confidence 1 - alpha.

    It is infinite until enough differences are known.

    Examples:
        >>> low, high = interval([2.0, 2.1, 1.9, 2.05, 1.95, 2.0])
        >>> 1.5 < low < 2.0 < high < 2.5
        True
        >>> interval([2.0])
        (-inf, inf)
    """
    count = len(differences)
    if count < 2:  # noqa: PLR2004 -- one has no spread
        return -math.inf, math.inf
    freedom, weight = count - 1, 1 + count * mixture
    middle, spread = float(np.mean(differences)), float(np.std(differences, ddof=1))
    # The ratio is below 1 / alpha as long as t squared is below this bound.
    bound = (math.sqrt(weight) / alpha) ** (2 / count)
    if bound >= weight:
        return -math.inf, math.inf
    squared = freedom * (bound - 1) / (1 - bound / weight)
    reach = math.sqrt(squared / count) * spread
    return middle - reach, middle + reach
