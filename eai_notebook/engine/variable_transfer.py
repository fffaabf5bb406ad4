"""Variables between this rank and the notebook, as plain data that needs no TensorFlow there."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from IPython.core.getipython import get_ipython

from eai_notebook import pickled
from eai_notebook.keras_archive import KerasArchive, is_model


def fetch(name: str) -> list[Any]:
    """Return the user's variable `name`, pickled; raises `NameError` if there is none."""
    variables = _user_ns()
    if name not in variables:
        raise NameError(name)
    return pickled.dump(plain(variables[name]))


def has(name: str) -> bool:
    """Return whether the user has a variable `name` here."""
    return name in _user_ns()


def store(values: dict[str, list[Any]]) -> None:
    """Set the user's variables to `values`, each of them pickled; all of them or none."""
    _user_ns().update({name: pickled.load(parts) for name, parts in values.items()})


def models() -> list[str]:
    """Return the names of the user's variables that are Keras models, set up for training or not."""
    return [
        name
        for name, value in _user_ns().items()
        if not name.startswith("_") and is_model(value) and value.built
    ]


def take_models(values: dict[str, list[Any]]) -> None:
    """Give the user's models what those in `values` have learned; set those that are missing.

    A model that is there already stays the same object, as other variables may refer to it.
    """
    known = _user_ns()
    for name, parts in values.items():
        model, mine = pickled.load(parts), known.get(name)
        if mine is None or not is_model(mine) or not _is_alike(mine, model):
            known[name] = model
            continue
        mine.set_weights(model.get_weights())
        optimizer = getattr(mine, "optimizer", None)
        optimizer = getattr(optimizer, "inner_optimizer", optimizer)
        if optimizer is not None and model.optimizer is not None and model.optimizer.built:
            if not optimizer.built:
                optimizer.build(mine.trainable_variables)
            for variable, value in zip(optimizer.variables, model.optimizer.variables, strict=True):
                variable.assign(value)


def _is_alike(mine: Any, other: Any) -> bool:
    return [tuple(v.shape) for v in mine.weights] == [tuple(v.shape) for v in other.weights]


def _user_ns() -> dict[str, Any]:
    shell = get_ipython()
    return shell.user_ns if shell else {}


def plain(value: Any) -> Any:
    """Return `value` with tensors and variables as arrays, and a Keras history as numbers.

    A history holds its model, and a model cannot be read without TensorFlow; what people
    want of it is the dictionary of its metrics. A model itself comes as Keras saves it.

    Examples:
        >>> plain({"a": (1, 2)})
        {'a': (1, 2)}
    """
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(plain(item) for item in value)
    if isinstance(getattr(value, "history", None), dict) and hasattr(value, "epoch"):
        return SimpleNamespace(history=plain(value.history), epoch=list(value.epoch))
    if is_model(value):
        return KerasArchive(value)
    if hasattr(value, "numpy") and callable(value.numpy):
        return value.numpy()
    return value
