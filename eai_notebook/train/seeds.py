"""The states of a model's random seeds: each rank's own, so that ranks drop out other units."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from eai_notebook import collective

if TYPE_CHECKING:
    import keras

_GOLDEN = 0x9E3779B1
"""2^32 over the golden ratio: it spreads the ranks' numbers over all bits."""


def seed_states(model: keras.Model) -> list[Any]:
    """Return the states of the seed generators in `model`, as variables of two integers.

    Examples:
        >>> import keras
        >>> len(seed_states(keras.Sequential([keras.Input((2,)), keras.layers.Dropout(0.5)])))
        1
    """
    others = {id(variable) for variable in [*model.weights, *model.metrics_variables]}
    return [v for v in model.variables if id(v) not in others and "int" in str(v.dtype)]


def separate_seeds(model: keras.Model) -> None:
    """Give each rank seeds of its own, where ranks have equal ones.

    After ``keras.utils.set_random_seed`` on all ranks, or with seeds in the program, all ranks
    would draw the same dropout masks and the same noise for other rows. Rank 0's seeds stay as
    they are. What depends only on the seed given, the initial weights among it, is drawn
    already. All ranks must call it together.

    Examples:
        >>> import keras
        >>> separate_seeds(keras.Sequential([keras.layers.Dropout(0.5, seed=1)]))
    """
    if collective.size() == 1:
        return
    states = seed_states(model)
    counts = collective.gather_numpy(np.array([len(states)], np.int64))
    if not states or (counts != counts[0]).any():
        return
    mine = [np.asarray(state).astype(np.int64).ravel() for state in states]
    table = collective.gather_numpy(np.stack(mine))
    rank = collective.rank()
    for index, state in enumerate(states):
        row = table[rank, index]
        if (table[:rank, index] == row).all(axis=1).any():
            mixed = row.copy()
            mixed[0] = (int(row[0]) ^ (rank * _GOLDEN)) & 0x7FFF_FFFF
            state.assign(mixed.astype(str(state.dtype)))
