"""Compare layer state beside weights: vocabularies, adapted statistics, constants.

`fit` shares rank 0's weights, but none of these: two ranks with two vocabularies would train
one embedding on two encodings, without an error. So they are compared.
"""

from __future__ import annotations

import base64
import json
import marshal
import zlib
from types import CodeType
from typing import TYPE_CHECKING, Any, Final

import keras
import numpy as np

from eai_notebook import collective
from eai_notebook.errors import EaiError
from eai_notebook.train.replica_check import checksum, first_difference

if TYPE_CHECKING:
    from collections.abc import Iterator

_OWN: Final = frozenset(
    {"name", "seed", "shared_object_id", "vocabulary", "idf_weights", "batch_shape", "lookup_table"}
    | {"build_config", "compile_config"}  # what a layer happened to see first
)
"""What a layer's configuration may have otherwise on each rank, or what is compared by itself."""


def state_of(layer: keras.Layer) -> dict[str, Any]:
    """Return what `layer` itself computes with beside its weights, by what it is called.

    Examples:
        >>> look = keras.layers.StringLookup(vocabulary=["a", "b"])
        >>> state_of(look)["vocabulary"].tolist()
        ['[UNK]', 'a', 'b']
    """
    found: dict[str, Any] = {}
    if hasattr(layer, "lookup_table") and hasattr(layer, "get_vocabulary"):
        found["vocabulary"] = np.array([str(token) for token in layer.get_vocabulary()])
        weights = getattr(layer, "idf_weights", None)
        if weights is not None:
            found["idf_weights"] = np.asarray(weights)
    for name, value in vars(layer).items():
        # (`_`: what Keras notes for itself, and what a layer keeps from one call to the next.)
        if name.startswith("_") or name in found or name in _OWN:
            continue
        array = _constant(value)
        if array is not None:
            found[name] = array
    if not isinstance(layer, keras.Model):
        configuration = _configuration(layer)
        if configuration is not None:
            found["configuration"] = configuration
    return found


def states_of(model: Any) -> Iterator[tuple[str, str, Any]]:
    """Yield the layer's kind and name, what of its state it is, and its value.

    Works for a model, a layer, or a `keras.utils.FeatureSpace`, and all layers inside, in the
    order in which they are kept: that is the same on all ranks that ran the same code.
    """
    for layer in layers_of(model):
        for what, value in state_of(layer).items():
            yield f"{type(layer).__name__} `{layer.name}`", what, value


def check_states(model: keras.Model) -> None:
    """Raise on all ranks if their layers compute with other vocabularies, statistics or constants.

    All ranks must call it together.

    Raises:
        EaiError: It names the first layer that differs, and the ranks.

    Examples:
        >>> check_states(keras.Sequential([keras.layers.Normalization()]))
    """
    if collective.size() == 1:
        return
    states = list(states_of(model))
    names = zlib.crc32(repr([(_kind(layer), what) for layer, what, _ in states]).encode())
    table = collective.gather_numpy(np.array([names, len(states)], np.int64))
    other = first_difference(table)
    if other is not None:
        raise EaiError(
            f"{_ranks(other[1])} built another model than the other ranks: its layers are others, or "
            "are adapted on some ranks only",
            "build and adapt the same layers on all ranks",
            code="ranks-have-different-models",
        )
    if not states:
        return
    sums = np.array([_sum(value) for _, _, value in states], np.int64)
    found = first_difference(collective.gather_numpy(sums))
    if found is None:
        return
    index, odd = found
    layer, what, _ = states[index]
    raise EaiError(
        f"{layer} of {_ranks(odd)} computes with another {_words(what)} than on the other ranks, so "
        "one set of weights would be trained on two encodings",
        "adapt it on all ranks' rows at once with eai.adapt(layer, data), or give all ranks the same",
        code="preprocessing-differs",
    )


def layers_of(model: keras.Layer) -> list[keras.Layer]:
    """Return a model or layer and all layers inside, each once.

    Examples:
        >>> [type(layer).__name__ for layer in layers_of(keras.layers.TextVectorization())]
        ['TextVectorization', 'StringLookup']
    """
    found = {id(layer): layer for layer in [model, *model._flatten_layers()]}  # noqa: SLF001
    # A FeatureSpace finds its layers by name.
    for name in ("preprocessors", "crossers"):
        inner = getattr(model, name, None)
        for layer in inner.values() if isinstance(inner, dict) else ():
            found |= {id(each): each for each in layers_of(layer)}
    return list(found.values())


def _constant(value: Any) -> np.ndarray | None:
    """Return `value` as an array if it is one, a tensor outside of any graph, a table, or numbers.

    A variable is a weight, and shared.
    """
    if isinstance(value, np.ndarray):
        return value
    if isinstance(value, keras.Variable) or hasattr(value, "assign"):
        return None
    if hasattr(value, "export") and hasattr(value, "key_dtype"):
        pairs = zip(*(part.numpy().tolist() for part in value.export()), strict=True)
        return np.array(sorted(str(pair) for pair in pairs))
    if keras.ops.is_tensor(value) and hasattr(value, "numpy"):
        return np.asarray(value)
    if isinstance(value, list | tuple) and value and all(type(v) in (float, int) for v in value):
        return np.array(value)
    return None


def _configuration(layer: keras.Layer) -> str | None:
    """Return what a layer was made with as JSON, without what may differ; None if it has none."""
    try:
        configuration = pruned(layer.get_config())
        return json.dumps(configuration, sort_keys=True, default=lambda value: type(value).__name__)
    except Exception:  # noqa: BLE001 -- layers need no configuration to be trained
        return None


def pruned(value: Any) -> Any:
    """Leave out names, seeds, and what has a name of its own inside: layers are compared by themselves."""
    if isinstance(value, dict):
        inner = value.get("config")
        if value.get("class_name") == "__lambda__" and isinstance(inner, dict):
            code = marshal.loads(base64.b64decode(inner["code"]))  # noqa: S302 -- this rank's own
            return [instructions(code), pruned(inner["defaults"]), pruned(inner["closure"])]
        if isinstance(inner, dict) and "policy" in str(value.get("class_name", "")).lower():
            return inner.get("name")
        return {str(k): pruned(v) for k, v in value.items() if k not in _OWN}
    if isinstance(value, list | tuple):
        return [pruned(each) for each in value]
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return value


def instructions(code: CodeType) -> list[Any]:
    """Return what a function does, without its file: a cell has another file on each rank."""
    constants = [
        instructions(each)
        if isinstance(each, CodeType)
        else sorted(map(repr, each))
        if isinstance(each, frozenset)  # whose order differs between processes
        else repr(each)
        for each in code.co_consts
    ]
    return [code.co_code.hex(), list(code.co_names), constants]


def _sum(value: Any) -> int:
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        about = f"{value.dtype}{value.shape}".encode()
        return checksum(value) ^ zlib.crc32(about) if value.size else zlib.crc32(about)
    return zlib.crc32(repr(value.tolist() if isinstance(value, np.ndarray) else value).encode())


def _kind(layer: str) -> str:
    return layer.split(" ", 1)[0]


def _words(what: str) -> str:
    return {"idf_weights": "idf_weights", "bin_boundaries": "set of bin_boundaries"}.get(what, what)


def _ranks(odd: list[int]) -> str:
    return f"rank {odd[0]}" if len(odd) == 1 else f"ranks {', '.join(map(str, odd))}"
