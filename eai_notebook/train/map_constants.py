"""Compare the constants and tables that the functions of a `tf.data` pipeline compute with.

``dataset.map(lambda x, y: (norm(x), y))`` takes a mean, a vocabulary or bins along. Where each rank
computed these of its own rows, one set of weights would be trained on several encodings, as with
a layer of the model, see `layer_state`. Functions that call Python cannot be looked into.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import tensorflow as tf

from eai_notebook import collective
from eai_notebook.errors import EaiError
from eai_notebook.train.data_sharding import say
from eai_notebook.train.replica_check import first_difference
from eai_notebook.train.row_data import chain_of

if TYPE_CHECKING:
    from collections.abc import Iterator

_LARGEST: Final = 1 << 20
"""Elements of the largest constant that is looked at; larger ones are data."""

_PICKS: Final = frozenset({"GatherV2", "GatherNd", "ResourceGather", "StridedSlice", "Slice"})
"""Operations that take rows out of a constant, which is then a rank's data and may differ."""


class Constant(NamedTuple):
    """Something that a pipeline's function computes with: what it is, and a number for its value."""

    what: str
    value: int


def check(dataset: Any) -> None:
    """Compare what the ranks' pipelines compute with; all ranks must call it together.

    Constants that differ are named in one line: a program may mean them to.

    Raises:
        EaiError: A vocabulary or bins differ.

    Examples:
        >>> check(tf.data.Dataset.range(3))
    """
    if collective.size() == 1:
        return
    own = constants_in(dataset)
    kinds = zlib.crc32(repr([constant.what for constant in own]).encode())
    table = collective.gather_numpy(np.array([kinds, len(own)], np.int64))
    if (table != table[0]).any() or not own:
        return  # other programs: what belongs together is unknown
    values = np.array([constant.value for constant in own], np.int64)
    found = first_difference(collective.gather_numpy(values))
    if found is None:
        return
    index, odd = found
    whose = f"rank {odd[0]}" if len(odd) == 1 else f"ranks {', '.join(map(str, odd))}"
    what = own[index].what
    line = f"a function in the data pipeline of {whose} computes with another {what} than on the other ranks"
    encodings = "one set of weights is trained on two encodings"
    if not what.startswith("constant"):
        raise EaiError(
            f"{line}, so {encodings}",
            "adapt it on all ranks' rows at once with eai.adapt(layer, data), or give all ranks the "
            "same",
            code="preprocessing-differs",
        )
    say(
        f"{line}: if it was computed of each rank's own rows, {encodings}; eai.adapt(layer, data) "
        "computes it of all ranks' rows"
    )


def constants_in(dataset: Any) -> list[Constant]:
    """Return what the functions of `dataset` compute with, in their order; none where it cannot be seen.

    Examples:
        >>> one = tf.data.Dataset.range(3).map(lambda i: tf.cast(i, "float32") * 2.5)
        >>> [constant.what for constant in constants_in(one)]
        ['constant (float32 [])']
    """
    if not isinstance(dataset, tf.data.Dataset):
        return []
    try:
        functions = [function for each in chain_of(dataset) for function in _functions(each)]
        return [constant for function in functions for constant in _constants(function)]
    except Exception:  # noqa: BLE001 -- a comparison must never end a training; it is left out
        return []


def _functions(dataset: tf.data.Dataset) -> Iterator[Any]:
    """Yield the traced functions that a dataset applies itself."""
    for _, value in sorted(vars(dataset).items()):
        function = getattr(value, "function", None)
        if hasattr(function, "captured_inputs"):
            yield function


def _constants(function: Any) -> Iterator[Constant]:
    """Yield what one function computes with."""
    graph = function.graph
    for operation in graph.get_operations():
        if operation.type == "Const":
            found = _number(tf.make_ndarray(operation.get_attr("value")), operation.outputs[0])
        elif operation.type == "Bucketize":
            bins = list(operation.get_attr("boundaries"))
            found = Constant("set of bin boundaries", zlib.crc32(repr(bins).encode()))
        else:
            continue
        if found is not None:
            yield found
    for outside, inside in zip(function.captured_inputs, graph.internal_captures, strict=True):
        if outside.dtype == tf.resource:
            found = _table(outside, inside)
        else:
            found = _number(np.asarray(outside), inside) if hasattr(outside, "numpy") else None
        if found is not None:
            yield found


def _number(value: np.ndarray, inside: tf.Tensor) -> Constant | None:
    """Return a constant of numbers or of texts; None for what a rank may have otherwise.

    Whole numbers are seeds, sizes and the rank itself; one text is a folder; rows are picked out of
    data.
    """
    texts = value.dtype.hasobject and value.ndim > 0
    numbers = value.dtype.kind in "fcV"  # (V: bfloat16)
    if not (texts or numbers) or not 0 < value.size <= _LARGEST:
        return None
    if any(use.type in _PICKS and use.inputs[0] is inside for use in inside.consumers()):
        return None
    content = repr(value.tolist()).encode() if texts else np.ascontiguousarray(value).tobytes()
    kind = "text" if texts else value.dtype.name
    return Constant(f"constant ({kind} {list(value.shape)})", zlib.crc32(content))


def _table(outside: tf.Tensor, inside: tf.Tensor) -> Constant | None:
    """Return a lookup table's content; None if the resource is none that is looked up."""
    for use in inside.consumers():
        if use.type == "LookupTableFindV2":
            kinds = {"Tkeys": use.get_attr("Tin"), "Tvalues": use.get_attr("Tout")}
            keys, values = tf.raw_ops.LookupTableExportV2(table_handle=outside, **kinds)
            pairs = sorted(zip(keys.numpy().tolist(), values.numpy().tolist(), strict=True))
            return Constant("vocabulary", zlib.crc32(repr(pairs).encode()))
    return None
