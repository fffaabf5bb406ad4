"""`Recipe`: which columns of a generated click log affect clicks, and how strongly."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from eai_notebook.clicklog.click_schema import CRITEO, ClickSchema
from eai_notebook.errors import EaiError

CATEGORICALS: Final = 26

_BUCKETS_PER_VALUE: Final = 100
_MAX_BUCKETS: Final = 10_000

# Distinct values of each categorical column: from a few to far more than occur twice, as in real
# logs.
_LOGS_DISTINCT: Final = (
    1400, 550, 60000, 40000, 300, 24, 12000, 600, 3, 50000, 5000, 60000, 3000,
    27, 14000, 60000, 10, 5000, 2000, 4, 60000, 18, 15, 40000, 100, 30000,
)  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """Which columns affect clicks, and how strongly.

    Columns are numbered from 0: ``0`` is C1, or I1 among the integers. Sizes are standard
    deviations of effects on the logit.

    Attributes:
        name: The recipe's name on the command line and in ``truth.json``.
        distinct: Distinct values of each categorical column.
        zipf: The exponent of each column's Zipf distribution of values.
        single: Size of the effects of a column's values, by column.
        combined: Pairs of columns; each combination of values has an effect of its own.
        combined_size: Size of these effects.
        taste: Pairs of columns whose values have hidden vectors; their dot product is the effect.
        taste_size: Size of one product of two coordinates.
        taste_length: Length of a hidden vector.
        taste_mean: Mean of a coordinate; if it is not 0, a single value has an effect, too.
        line: Slope in an integer's logarithm, by column.
        bend: Size of a V-shaped effect of the logarithm, by column.
        bias: The logit without any effects.
    """

    name: str
    distinct: tuple[int, ...]
    zipf: tuple[float, ...]
    single: dict[int, float]
    combined: tuple[tuple[int, int], ...]
    combined_size: float
    taste: tuple[tuple[int, int], ...]
    taste_size: float
    taste_length: int
    line: dict[int, float]
    bend: dict[int, float]
    bias: float
    taste_mean: float = 0.0

    @property
    def schema(self) -> ClickSchema:
        """Criteo's columns, with buckets for these values and crosses of these pairs.

        The choice of a user who has counted each column's values and knows which columns interact.
        """
        # Of n values in b buckets, about n**2 / 2b pairs collide; among 20 values, one collision
        # loses a tenth of the information in their crosses.
        return replace(
            CRITEO,
            buckets=tuple(min(_BUCKETS_PER_VALUE * each, _MAX_BUCKETS) for each in self.distinct),
            crosses=tuple((f"C{left + 1}", f"C{right + 1}") for left, right in self.combined),
        )


LOGS: Final = Recipe(
    name="logs",
    distinct=_LOGS_DISTINCT,
    zipf=(1.5,) * CATEGORICALS,
    single={0: 0.3, 1: 0.3, 4: 0.3, 6: 0.25, 10: 0.25, 12: 0.25, 14: 0.25, 16: 0.3, 24: 0.3},
    combined=((24, 13), (5, 22), (7, 16), (8, 21), (19, 24)),
    combined_size=0.6,
    taste=((4, 24), (5, 7), (13, 16)),
    taste_size=0.35,
    taste_length=2,
    line={0: 0.25, 3: -0.2, 6: 0.15},
    bend={5: 0.45, 10: 0.35},
    bias=-1.9,
)
"""Similar to published logs: some of each effect, and many values too rare to be learned."""


def _rules() -> Recipe:
    combined, taste, single = ((24, 13), (5, 22), (8, 21)), ((4, 6), (7, 12)), (0, 1, 16)
    distinct, zipf = [min(count, 10) for count in _LOGS_DISTINCT], [1.5] * CATEGORICALS
    for pairs, count, power in ((combined, 12, 0.5), (taste, 30, 0.7)):
        for column in (column for pair in pairs for column in pair):
            distinct[column], zipf[column] = count, power
    for column in single:
        distinct[column], zipf[column] = 10, 0.7
    return replace(
        LOGS,
        name="rules",
        distinct=tuple(distinct),
        zipf=tuple(zipf),
        single=dict.fromkeys(single, 0.3),
        combined=combined,
        combined_size=0.8,
        taste=taste,
        taste_size=0.35,
        taste_length=1,
        taste_mean=1.0,
        bend={5: 0.2, 10: 0.15},
        bias=-2.0,
    )


RULES: Final = _rules()
"""Needs both memorization and generalization, learnable from some hundred thousand rows.

Three pairs of columns have 144 combinations each, every one with an independent effect, which a
model must memorize. Two pairs have 900 combinations, many of them rare, whose effects follow from a
hidden vector of either value, so a model can generalize.
"""

RECIPES: Final = {recipe.name: recipe for recipe in (LOGS, RULES)}


def find_recipe(name: str) -> Recipe:
    """Return the recipe with a name.

    Raises:
        EaiError: There is no such recipe.

    Examples:
        >>> find_recipe("rules").schema.crosses[0]
        ('C25', 'C14')
    """
    if name not in RECIPES:
        raise EaiError(
            f"there is no recipe {name!r}",
            f"choose from {', '.join(RECIPES)}",
            code="option-invalid",
        )
    return RECIPES[name]
