"""`PlantedModel`: the known model from which click logs are generated.

For real click logs, the best possible score is unknown. Here each row's click probability is known,
and so is the best AUC that any model can reach (the Bayes AUC). The effects are:

- single values, also rare ones: a logistic regression on hashed ids learns them;
- pairs of columns with few values, in which each *combination* has a weight of its own: they need
  feature crosses;
- pairs of columns with many values, in which each value has a hidden vector: they need embeddings
  and a network;
- integers with a V-shaped effect: a linear model cannot learn it.

A `Recipe` sets the size of each effect.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from eai_notebook.datasets.click_recipes import CATEGORICALS, LOGS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from eai_notebook.datasets.click_recipes import Recipe

INTEGERS: Final = 13
MISSING: Final = np.iinfo(np.int64).min
"""The value of a missing integer."""

_MISSING_CATEGORICAL: Final = (
    0, 0, 0.03, 0.03, 0, 0.12, 0, 0, 0, 0, 0, 0.03, 0,
    0, 0, 0.03, 0, 0, 0.44, 0.44, 0.03, 0.76, 0, 0.03, 0.44, 0.44,
)  # fmt: skip

_SIZE: Final = (0.8, 1.6, 1.9, 1.5, 6.5, 3.0, 1.8, 1.9, 3.2, 0.3, 0.8, 0.2, 1.5)
_SPREAD: Final = (1.0, 1.8, 1.6, 1.0, 2.4, 1.8, 1.4, 1.0, 1.5, 0.5, 0.9, 0.7, 1.1)
_MISSING_INTEGER: Final = (
    0.45, 0, 0.21, 0.22, 0.03, 0.22, 0.04, 0, 0.04, 0.45, 0.04, 0.76, 0.22,
)  # fmt: skip
_MAY_BE_NEGATIVE: Final = 1  # the column I2: values from -3 on, as in the published logs


@dataclass(frozen=True)
class Batch:
    """Generated rows, before they are written as text.

    Attributes:
        labels: uint8 ``[rows]``, 1 for a click.
        integers: int64 ``[rows, 13]``, `MISSING` if missing.
        values: uint32 ``[rows, 26]``, the categoricals.
        missing: bool ``[rows, 26]``, True for a missing categorical.
        probabilities: float64 ``[rows]``, the probability of a click.
    """

    labels: NDArray[np.uint8]
    integers: NDArray[np.int64]
    values: NDArray[np.uint32]
    missing: NDArray[np.bool_]
    probabilities: NDArray[np.float64]


class PlantedModel:
    """Draws rows; `seed` and recipe determine all of its effects."""

    def __init__(self, seed: int, recipe: Recipe = LOGS) -> None:
        rng = np.random.default_rng([seed, 0])
        self._seed = seed
        self._recipe = recipe
        distinct = recipe.distinct
        self._popularity = [
            _zipf(count, power) for count, power in zip(distinct, recipe.zipf, strict=True)
        ]
        # The last effect of a column is that of a missing value.
        self._single = {
            column: size * rng.standard_normal(distinct[column] + 1)
            for column, size in recipe.single.items()
        }
        self._combined = {
            (left, right): recipe.combined_size
            * rng.standard_normal((distinct[left] + 1, distinct[right] + 1))
            for left, right in recipe.combined
        }
        self._taste = {
            (left, right): (
                recipe.taste_size * _taste(rng, distinct[left], recipe),
                _taste(rng, distinct[right], recipe),
            )
            for left, right in recipe.taste
        }

    def draw(self, part: int, rows: int) -> Batch:
        """Draw the rows of file number `part`; the result is always the same."""
        rng = np.random.default_rng([self._seed, 1, part])
        choices, missing = self._categoricals(rng, rows)
        integers, logs = _integers(rng, rows)
        logit = np.full(rows, self._recipe.bias)
        for column, effect in self._single.items():
            logit += effect[choices[:, column]]
        for (left, right), table in self._combined.items():
            logit += table[choices[:, left], choices[:, right]]
        for (left, right), (left_vectors, right_vectors) in self._taste.items():
            logit += np.sum(
                left_vectors[choices[:, left]] * right_vectors[choices[:, right]], axis=1
            )
        for column, slope in self._recipe.line.items():
            logit += slope * (logs[:, column] - _SIZE[column])
        for column, size in self._recipe.bend.items():
            standardized = (logs[:, column] - _SIZE[column]) / _SPREAD[column]
            logit += size * (np.minimum(np.abs(standardized), 2.0) - 1.0)
        probabilities = 1.0 / (1.0 + np.exp(-logit))
        labels = (rng.random(rows) < probabilities).astype(np.uint8)
        columns = np.arange(CATEGORICALS, dtype=np.uint64)
        return Batch(labels, integers, _names(choices, columns), missing, probabilities)

    def _categoricals(
        self, rng: np.random.Generator, rows: int
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        missing = rng.random((rows, CATEGORICALS)) < np.asarray(_MISSING_CATEGORICAL)
        choices = np.empty((rows, CATEGORICALS), np.int64)
        for column, popularity in enumerate(self._popularity):
            drawn = np.searchsorted(popularity, rng.random(rows), side="right")
            # A missing value has the last effect.
            choices[:, column] = np.where(missing[:, column], len(popularity), drawn)
        return choices, missing


def _taste(rng: np.random.Generator, count: int, recipe: Recipe) -> NDArray[np.float64]:
    """Draw the vectors of `count` values and of a missing one."""
    return recipe.taste_mean + rng.standard_normal((count + 1, recipe.taste_length))


def _zipf(count: int, power: float) -> NDArray[np.float64]:
    """Return cumulative probabilities; the last is exactly 1, so that every draw is in range."""
    weights = np.arange(1, count + 1, dtype=np.float64) ** -power
    cumulated = np.cumsum(weights / weights.sum())
    cumulated[-1] = 1.0
    return cumulated


def _integers(rng: np.random.Generator, rows: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Draw heavy-tailed integers; also return their logarithms, the mean one where missing."""
    size, spread = np.asarray(_SIZE), np.asarray(_SPREAD)
    drawn = np.exp(size + spread * rng.standard_normal((rows, INTEGERS)))
    integers = np.floor(np.minimum(drawn, 2.0e9)).astype(np.int64)
    integers[:, _MAY_BE_NEGATIVE] -= rng.integers(0, 4, rows)
    logs = np.log1p(np.maximum(integers, 0))
    missing = rng.random((rows, INTEGERS)) < np.asarray(_MISSING_INTEGER)
    integers[missing] = MISSING
    return integers, np.where(missing, size, logs)


def _names(choices: NDArray[np.int64], columns: NDArray[np.uint64]) -> NDArray[np.uint32]:
    """Return a 32-bit name for each value, independent of its rank (splitmix64)."""
    mixed = choices.astype(np.uint64) + (columns << np.uint64(32))
    mixed = (mixed + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    names: NDArray[np.uint32] = (mixed >> np.uint64(32)).astype(np.uint32)
    return names
