"""Contributions to an exchange: numbers to be summed, and rows of embeddings."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass
class Slices:
    """Some rows of a table.

    Attributes:
        indices: Which rows, int64 of shape [n]; in a sum each comes once, in rising order.
        values: What they are, of shape [n, width].
    """

    indices: np.ndarray
    values: np.ndarray

    def merged(self) -> Slices:
        """Return it with rows of equal index added up, in float64 and in the order they have.

        Examples:
            >>> rows = Slices(np.array([4, 1, 4]), np.array([[1.0], [2.0], [3.0]]))
            >>> rows.merged().values.tolist()
            [[2.0], [4.0]]
        """
        if not len(self.indices):
            return self
        order = np.argsort(self.indices, kind="stable")
        ordered = self.indices[order]
        begins = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
        sums = np.add.reduceat(self.values[order].astype(np.float64), begins, axis=0)
        return Slices(ordered[begins], sums.astype(self.values.dtype))

    @classmethod
    def joined(cls, several: Sequence[Slices]) -> Slices:
        """Return the rows of several one after the other."""
        return cls(
            np.concatenate([each.indices for each in several]),
            np.concatenate([each.values for each in several]),
        )


@dataclass
class Contribution:
    """A rank's part of an exchange, or the sum of all.

    Everything is summed in float64, so that a sum rounded to float32 is all but always the same
    in whatever order the ranks are added.

    Attributes:
        numbers: float64 of one length on all ranks.
        tables: As many on all ranks, each with any number of rows.
        gradients: Flat, of one length on all ranks: those of one virtual rank, or the sum of those
            of several in float64. Those of all are their mean, of dtype `precision`.
        precision: To which the mean of the gradients is rounded.
        runs: Of how many virtual ranks it is.
    """

    numbers: np.ndarray
    tables: list[Slices] = field(default_factory=list)
    gradients: np.ndarray = field(default_factory=partial(np.zeros, 0, np.float32))
    precision: str = "float32"
    runs: float = 1.0
