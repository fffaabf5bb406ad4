"""States that one batch leaves in a layer for the next: those of stateful recurrent layers.

They belong to a rank's own rows, so they are neither shared, nor averaged, nor compared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras

from eai_notebook.train.sharded.sharded_variables import copies

if TYPE_CHECKING:
    from collections.abc import Iterable


def carried_states(model: keras.Model) -> list[Any]:
    """Return the variables that `model`'s stateful layers carry from batch to batch.

    Examples:
        >>> layer = keras.layers.LSTM(3, stateful=True)
        >>> model = keras.Sequential([keras.Input(batch_shape=(4, 5, 2)), layer])
        >>> len(carried_states(model))
        2
    """
    layers = model._flatten_layers()  # noqa: SLF001 -- the only way to those inside others
    stateful = (layer for layer in layers if getattr(layer, "stateful", False))
    leaves = (keras.tree.flatten(getattr(layer, "states", None)) for layer in stateful)
    return [state for states in leaves for state in states if hasattr(state, "assign")]


def in_common(model: keras.Model, variables: Iterable[Any]) -> list[Any]:
    """Return those of `variables` that must be the same on all ranks, in their order.

    Left out are a rank's part of a larger table, and what a stateful layer carries.
    """
    carried = {id(state) for state in carried_states(model)}
    return [variable for variable in copies(variables) if id(variable) not in carried]
