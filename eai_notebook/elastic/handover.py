"""The state that a newcomer takes over of a training that goes on: model, callbacks, history."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from eai_notebook.errors import EaiError
from eai_notebook.train.checkpoint import own_values

if TYPE_CHECKING:
    from collections.abc import Sequence

    import keras

_KERAS: Final = "keras."
_PLAIN: Final = (bool, int, float, str, type(None), np.generic, np.ndarray)
_NOT_OWN: Final = frozenset({"_model", "_params", "params", "validation_data"})


def variables_of(model: keras.Model) -> list[Any]:
    """Return all variables that a step changes: weights, optimizer, metrics, each once."""
    return [*model.weights, *model.optimizer.variables, *model.metrics_variables]


def describe(model: keras.Model) -> list[list[Any]]:
    """Return shape and dtype of each variable, to find out whether two models are the same."""
    return [[list(map(int, v.shape)), str(v.dtype)] for v in variables_of(model)]


def check_alike(model: keras.Model, described: Sequence[Any]) -> None:
    """Refuse to join the training of another model.

    Raises:
        EaiError: Variables differ in number, shape or dtype.
    """
    mine = describe(model)
    if mine == list(described):
        return
    differing = [
        index for index, pair in enumerate(zip(mine, described, strict=False)) if pair[0] != pair[1]
    ]
    first = f"variable {differing[0]}" if differing else "the number of variables"
    raise EaiError(
        f"this rank has built another model than the one that is trained: {first} differs",
        "build the model in the cell or in a set-up cell, the same on every rank",
        code="join-failed",
    )


def values_of(model: keras.Model) -> list[np.ndarray]:
    """Return the values of all variables, in dtypes that MPI's bytes can carry."""
    found = []
    for variable in variables_of(model):
        values = np.asarray(own_values(variable))
        is_native = values.dtype.kind in "biufc"  # bfloat16 and its like are not NumPy's own
        found.append(values if is_native else values.astype(np.float32))
    return found


def take_values(model: keras.Model, values: Sequence[np.ndarray]) -> None:
    """Set all variables to what `values_of` has returned on another rank."""
    for variable, value in zip(variables_of(model), values, strict=True):
        variable.assign(value)


def memory_of(callbacks: Sequence[keras.callbacks.Callback]) -> list[dict[str, Any]]:
    """Return what Keras's own callbacks remember, such as the best loss so far, as plain data.

    A callback of the user's may remember what belongs to its rank: it begins anew.
    """
    return [
        {
            name: value
            for name, value in vars(_own(callback)).items()
            if name not in _NOT_OWN and _is_plain(value)
        }
        if type(_own(callback)).__module__.startswith(_KERAS)
        else {}
        for callback in callbacks
    ]


def take_memory(
    callbacks: Sequence[keras.callbacks.Callback], memory: Sequence[dict[str, Any]]
) -> None:
    """Have callbacks remember what `memory_of` has returned on another rank."""
    for callback, known in zip(callbacks, memory, strict=False):
        vars(_own(callback)).update(known)


def _own(callback: keras.callbacks.Callback) -> keras.callbacks.Callback:
    """Return the callback that another passes on to."""
    inner: keras.callbacks.Callback = getattr(callback, "inner", callback)
    return inner


def _is_plain(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(map(_is_plain, value)) and all(map(_is_plain, value.values()))
    return isinstance(value, _PLAIN)
