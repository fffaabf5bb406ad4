"""Digest of a variable, so that ranks can be compared without sending all of it.

Nothing here needs the ring: what differs is often looked for when the ring is broken.
"""

from __future__ import annotations

import sys
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
from IPython.core.getipython import get_ipython

if TYPE_CHECKING:
    from collections.abc import Iterator


def digest(name: str) -> list[dict[str, Any]]:
    """Return ``path``, ``label``, ``kind`` and ``sum`` of each part of the variable `name`.

    Raises `NameError` if there is none. ``kind`` is the dtype and shape of an array, else
    the type; equal parts have equal sums. ``label`` is what a model calls the part; it may
    be another on each rank, since Keras counts the models that were made there.
    """
    return [
        {"path": path, "label": _label(value), "kind": _kind(value), "sum": _checksum(value)}
        for path, value in parts(name, _variable(name))
    ]


def part(name: str, path: str) -> Any:
    """Return the part of variable `name` at `path`: an array, else its text."""
    for here, found in parts(name, _variable(name)):
        if here == path:
            value = _array_of(found)
            if not isinstance(value, np.ndarray):
                return repr(value)
            # bfloat16 and its kin are unknown to NumPy, and so to the kernel
            return value.astype(np.float32) if value.dtype.kind == "V" else value
    raise NameError(path)


def parts(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the arrays, variables and plain values that make up `value`, each with its path.

    Models give their weights, the variables of their optimizer, and the vocabularies, adapted
    statistics and constants of their layers; containers give their items.

    Examples:
        >>> [(where, part.tolist()) for where, part in parts("x", {"a": np.arange(2)})]
        [("x['a']", [0, 1])]
    """
    variables = getattr(value, "weights", None) or getattr(value, "variables", None)
    if isinstance(value, dict):
        for key, item in value.items():
            yield from parts(f"{path}[{key!r}]", item)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from parts(f"{path}[{index}]", item)
    elif isinstance(variables, list | tuple):
        for index, variable in enumerate(variables):
            yield f"{path}.weights[{index}]", variable
        if getattr(value, "optimizer", None) is not None:
            yield from parts(f"{path}.optimizer", value.optimizer)
        yield from _layer_states(path, value)
    else:
        yield path, value


def _layer_states(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield what a layer, or the layers of a model, compute with beside their weights.

    Layers are numbered by their kind: their names count what was made on a rank, and differ.
    """
    keras = sys.modules.get("keras")
    if keras is None or not isinstance(value, keras.Layer):
        return
    from eai_notebook.train.layer_state import layers_of, state_of

    counts: dict[str, int] = {}
    for layer in layers_of(value):
        kind = type(layer).__name__
        number = counts[kind] = counts.get(kind, -1) + 1
        for what, part in state_of(layer).items():
            yield f"{path}.{kind}[{number}].{what}", part


def _variable(name: str) -> Any:
    shell = get_ipython()
    variables = shell.user_ns if shell else {}
    if name not in variables:
        raise NameError(name)
    return variables[name]


def _array_of(value: Any) -> Any:
    """Return `value` as an array if that loses nothing, else as it is."""
    if hasattr(value, "__array__") or isinstance(value, bool | int | float | complex):
        return np.asarray(value)
    return value


def _label(value: Any) -> str:
    return str(getattr(value, "path", "")) if hasattr(value, "__array__") else ""


def _kind(value: Any) -> str:
    value = _array_of(value)
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {list(value.shape)}"
    return type(value).__name__


def _checksum(value: Any) -> int:
    value = _array_of(value)
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        return zlib.crc32(np.ascontiguousarray(value).tobytes())
    return zlib.crc32(repr(value).encode())
