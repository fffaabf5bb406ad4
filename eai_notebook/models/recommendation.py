"""Models that rank what a person may click."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops

from eai_notebook.errors import EaiError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eai_notebook.io.schema import ClickSchema

_CROSS_BUCKETS = 10_000
_SPREAD = 2654435761  # 2**32 / golden ratio (Knuth's multiplicative hash)
_LOW = 1 << 16  # the low bits of a product are the least mixed


def wide_deep(
    schema: ClickSchema,
    *,
    embedding_dim: int = 8,
    hidden: Sequence[int] = (64, 32),
    crosses: Sequence[tuple[str, str]] | None = None,
) -> keras.Model:
    """Return a Wide & Deep click model: memorises combinations, generalises over the rest.

    The wide part is linear in every hashed id and in crosses of two columns; it remembers
    which combinations were clicked. The deep part gives each id a vector and puts a network
    on all of them and the integers; it judges combinations it has not seen. Both are
    trained jointly (Cheng et al. 2016, arXiv:1606.07792).

    Args:
        schema: The columns; `eai_notebook.io.CRITEO`.
        embedding_dim: Length of an id's vector.
        hidden: Units of the hidden layers.
        crosses: Pairs of categorical columns; those of the schema by default.

    Returns:
        An uncompiled model from ``{"numbers": float32 [batch, integers], "ids": int32
        [batch, categoricals]}`` to click probabilities, float32 ``[batch, 1]``.

    Raises:
        EaiError: A cross names a column that is not there, or a size is below 1.

    Example:
        >>> from eai_notebook.io import CRITEO
        >>> model = wide_deep(CRITEO.with_buckets(100), hidden=(16,))
        >>> model.output_shape
        (None, 1)
    """
    if embedding_dim < 1 or min(hidden, default=1) < 1:
        raise EaiError(
            f"embedding_dim is {embedding_dim} and hidden is {tuple(hidden)}",
            "give sizes of at least 1",
        )
    pairs = _columns(schema, schema.crosses if crosses is None else crosses)
    numbers = keras.Input((len(schema.integers),), name="numbers")
    categorical = keras.Input((len(schema.categorical),), name="ids", dtype="int32")
    # All columns share one table, each in its own stretch of it: the step computes a sixth
    # less than with 26 tables, and ranks have one gradient to exchange instead of 26.
    starts = np.cumsum([0, *schema.buckets])
    ids = ops.add(categorical, starts[:-1].astype("int32"))
    wide = _wide(categorical, ids, schema, pairs, int(starts[-1]))
    deep = _deep(numbers, ids, int(starts[-1]), embedding_dim, hidden)
    click = keras.layers.Activation("sigmoid", name="click")(
        keras.layers.Add(name="logit")([wide, deep])
    )
    return keras.Model({"numbers": numbers, "ids": categorical}, click, name="wide_deep")


def _columns(schema: ClickSchema, crosses: Sequence[tuple[str, str]]) -> list[tuple[int, int]]:
    place = {name: number for number, name in enumerate(schema.categorical)}
    try:
        return [(place[left], place[right]) for left, right in crosses]
    except KeyError as error:
        raise EaiError(
            f"{schema.name} has no categorical column {error}",
            f"cross columns from {schema.categorical[0]} to {schema.categorical[-1]}",
        ) from None


def _wide(
    categorical: Any, ids: Any, schema: ClickSchema, pairs: list[tuple[int, int]], table: int
) -> Any:
    """Sum one weight for each id and one for each cross."""
    if pairs:
        crossed = _cross(categorical, schema, pairs)
        starts = table + _CROSS_BUCKETS * np.arange(len(pairs), dtype="int32")
        ids = ops.concatenate([ids, ops.add(crossed, starts.astype("int32"))], axis=1)
    weights = keras.layers.Embedding(
        table + _CROSS_BUCKETS * len(pairs), 1, embeddings_initializer="zeros", name="wide"
    )(ids)
    return ops.sum(weights, axis=1)


def _cross(categorical: Any, schema: ClickSchema, pairs: list[tuple[int, int]]) -> Any:
    """Hash each pair of buckets into one of the cross's buckets."""
    left, right = (np.asarray(side, "int32") for side in zip(*pairs, strict=True))
    width = np.asarray([schema.buckets[column] for column in right], "int64")
    pair = ops.add(
        ops.multiply(ops.cast(ops.take(categorical, left, axis=1), "int64"), width),
        ops.cast(ops.take(categorical, right, axis=1), "int64"),
    )
    mixed = ops.floor_divide(ops.multiply(pair, _SPREAD), _LOW)
    return ops.cast(ops.mod(mixed, _CROSS_BUCKETS), "int32")


def _deep(numbers: Any, ids: Any, table: int, embedding_dim: int, hidden: Sequence[int]) -> Any:
    vectors = keras.layers.Embedding(table, embedding_dim, name="embedding")(ids)
    values = keras.layers.Concatenate(name="deep_inputs")(
        [keras.layers.Flatten(name="flat")(vectors), numbers]
    )
    for number, units in enumerate(hidden, start=1):
        values = keras.layers.Dense(units, activation="relu", name=f"deep_{number}")(values)
    return keras.layers.Dense(1, name="deep_logit")(values)
