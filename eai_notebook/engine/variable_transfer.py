"""Values for the kernel as plain data that needs no TensorFlow there."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from IPython.core.getipython import get_ipython


def fetch(name: str) -> Any:
    """Return the user's variable `name`; raises `NameError` if there is none."""
    shell = get_ipython()
    variables = shell.user_ns if shell else {}
    if name not in variables:
        raise NameError(name)
    return plain(variables[name])


def plain(value: Any) -> Any:
    """Return `value` with tensors and variables as arrays, and a Keras history as numbers.

    A history holds its model, and a model cannot be read without TensorFlow; what people
    want of it is the dictionary of its metrics.

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
    if hasattr(value, "numpy") and callable(value.numpy):
        return value.numpy()
    return value
