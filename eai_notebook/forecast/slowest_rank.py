"""The slowest of N ranks: how long a step's work is expected to take on the last of them.

All ranks wait for the last one. What they have in common in a step does not grow with their number.
What one of them always takes longer does not either, and where it is much, it leaves the others'
chance no room. What differs by chance grows like an order statistic.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from eai_notebook.ledger.arrays import Floats

PER_RANK: Final = 4
"""So many deviations must be known for each rank that is spoken of: the largest of N says little
where the sample has hardly more than N."""

SHAPED: Final = 4
"""From so many ranks on, what is left without their mean has the shape of one rank's chance."""

_GRID: Final = 1500


@dataclass(frozen=True)
class Work:
    """What ranks do themselves in a step, seconds, as it was measured.

    ``common[S]`` is the mean over ranks in each step, ``offsets[R]`` how much more than it each rank
    always takes, the largest last. ``deviations[D]`` are what ranks take more or less by chance, sorted.
    """

    common: Floats
    offsets: Floats
    deviations: Floats

    @classmethod
    def of(cls, own: Floats) -> Work:
        """Return the work of ranks by step, ``own[R, S]`` in seconds, all known.

        One rank alone does not say what it would have in common with others: all of its
        spread counts as chance.

        Examples:
            >>> work = Work.of(np.array([[1.0, 2.0, 1.0], [1.2, 2.2, 1.2]]))
            >>> work.offsets.round(3).tolist(), round(float(work.deviations.max()), 3)
            ([-0.1, 0.1], 0.0)
        """
        ranks, steps = own.shape
        if ranks == 1:
            return cls(np.full(steps, own.mean()), np.zeros(1), np.sort(own[0] - own.mean()))
        common = own.mean(axis=0)
        per_rank = own.mean(axis=1) - own.mean()
        apart = own - common - per_rank[:, None]
        # A mean over few ranks has taken a part of each deviation with it.
        apart *= np.sqrt(ranks / (ranks - 1))
        if ranks < SHAPED:
            # The difference of two ranks is even where their times are not: the times have the
            # shape, the differences the width.
            alone = own - own.mean(axis=1, keepdims=True)
            apart = alone * min(apart.std() / max(alone.std(), 1e-12), 1.0)
        # Chance alone makes some rank's mean the largest; only what is beyond it persists.
        by_chance = float(apart.std() / np.sqrt(steps)) * _normal_largest(ranks)
        largest = float(per_rank.max())
        kept = max(largest - by_chance, 0.0) / largest if largest > 0 else 0.0
        return cls(common, np.sort(kept * per_rank), np.sort(apart.ravel()))

    @property
    def most_ranks(self) -> int:
        """The largest number of ranks that the sample says something about."""
        return len(self.deviations) // PER_RANK

    def slowest(self, ranks: int, others: Floats | None = None) -> float:
        """Return the mean work of the slowest of so many ranks, in seconds.

        ``others`` are the offsets of ranks beyond those that were measured. Without them, these are
        like the measured ones but for the slowest, which is the only one of its kind.

        Examples:
            >>> work = Work(np.array([1.0]), np.zeros(2), np.linspace(-0.1, 0.1, 1001))
            >>> [round(work.slowest(n), 3) for n in (1, 3, 9)]
            [1.0, 1.05, 1.08]
            >>> late = Work(np.array([1.0]), np.array([-1.0, 1.0]), np.linspace(-0.1, 0.1, 1001))
            >>> round(late.slowest(9), 3)
            2.0
        """
        if ranks == 1:
            return float(self.common.mean())
        return float(self.common.mean()) + self._largest(self._offsets(ranks, others))

    def _offsets(self, ranks: int, others: Floats | None) -> Floats:
        """Return the offsets of so many ranks."""
        known = self.offsets[-ranks:]
        if others is None:
            usual = self.offsets[:-1] if len(self.offsets) > 1 else self.offsets
            others = np.resize(usual, max(ranks - len(known), 0))
        return np.concatenate([known, others])[:ranks]

    def _largest(self, offsets: Floats) -> float:
        """Return the expected largest of a draw from the deviations for each offset."""
        count, deviations = len(self.deviations), self.deviations
        kinds, times = np.unique(offsets, return_counts=True)
        if len(kinds) == 1:
            edges = (np.arange(count + 1) / count) ** len(offsets)
            return float(kinds[0] + deviations @ np.diff(edges))
        least, most = kinds.max() + deviations[0], kinds.max() + deviations[-1]
        grid = np.linspace(least, most, _GRID)
        below = np.ones(_GRID)
        for kind, many in zip(kinds, times, strict=True):
            below *= (np.searchsorted(deviations, grid - kind, side="right") / count) ** many
        return float(most - np.trapezoid(below, grid)) if most > least else float(most)


def _normal_largest(count: int) -> float:
    """Return about what the largest of some standard normal numbers is expected to be (Blom)."""
    return NormalDist().inv_cdf((count - 0.375) / (count + 0.25))
