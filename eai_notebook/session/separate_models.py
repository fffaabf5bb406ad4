"""Lines about a cell in which the ranks have trained models of their own."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Final

from eai_notebook.telemetry.messages import TrainedAlone, VariablesTrained

if TYPE_CHECKING:
    from collections.abc import Mapping

_CLOSE: Final = 1e-5
"""How far apart sums of one model's weights may be: some kernels add in any order."""


class SeparateModels:
    """Collects the ranks' reports of trainings in one cell; `lines` names separate models.

    Examples:
        >>> found = SeparateModels()
        >>> for rank in range(2):
        ...     found.take(VariablesTrained(rank, {"kernel": (float(rank), 1.0)}))
        >>> [line[:46] for line in found.lines()]
        ["the ranks' `kernel` is another after this cell"]
    """

    def __init__(self) -> None:
        self._alone: set[int] = set()
        self._trained: dict[int, Mapping[str, tuple[float, float]]] = {}

    def take(self, message: TrainedAlone | VariablesTrained) -> None:
        """Take one rank's message."""
        if isinstance(message, TrainedAlone):
            self._alone.add(message.rank)
        else:
            self._trained[message.rank] = message.sums

    def lines(self) -> list[str]:
        """Return a line on Keras fits, one on custom loops, or none."""
        lines = [_of_fits(len(self._alone))] if len(self._alone) > 1 else []
        apart = [] if lines else _apart(list(self._trained.values()))
        return [*lines, _of_loops(apart)] if apart else lines


def _of_fits(ranks: int) -> str:
    return (
        f"model.fit trained {ranks} separate models in this cell, one on each rank: no gradient was "
        "exchanged. To train one model, call eai.fit(model, ...), or compile with "
        "eai.DistributedOptimizer(...) and pass callbacks=eai.callbacks()"
    )


def _of_loops(apart: list[str]) -> str:
    more = f" and {len(apart) - 1} more variables are others" if len(apart) > 1 else " is another"
    return (
        f"the ranks' `{apart[0]}`{more} after this cell's training loop: gradients were not averaged, "
        "so each rank trains a model of its own. To train one model, wrap the optimizer, "
        "eai.DistributedOptimizer(optimizer), or average with "
        "eai.allreduce_gradients(gradients, variables)"
    )


def _apart(ranks: list[Mapping[str, tuple[float, float]]]) -> list[str]:
    """Return the first rank's names of the variables that differ between two ranks.

    Ranks give them in the order of their programs: Keras numbers layers on each rank, so names
    of one variable may differ.
    """
    if len(ranks) < 2:  # noqa: PLR2004
        return []
    names = list(ranks[0])
    return [
        name
        for name, *sums in zip(names, *(each.values() for each in ranks), strict=False)
        if any(_differ(one, other) for one, other in itertools.pairwise(sums))
    ]


def _differ(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return abs(one[0] - other[0]) > _CLOSE * max(one[1], other[1])
