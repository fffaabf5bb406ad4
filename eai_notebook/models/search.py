"""DSSM: embed queries and documents so that clicked pairs are close."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import keras
import numpy as np
from keras import ops

from eai_notebook.errors import EaiError
from eai_notebook.models.trigrams import BUCKETS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

SMOOTHING: Final = 10.0
"""Factor on the cosines before the softmax."""


def dssm(
    *,
    buckets: int = BUCKETS,
    length: int = 64,
    hidden: Sequence[int] = (300,),
    dim: int = 128,
    unclicked: int = 0,
    smoothing: float = SMOOTHING,
) -> keras.Model:
    """Return a deep structured semantic model: a tower for queries and one for documents.

    Each maps letter trigrams (`eai_notebook.models.hash_trigrams`) to a unit vector. Training
    brings a query, by a softmax over cosines, nearer to the clicked document than to documents
    that were shown and not clicked, and to all other documents of its batch. Larger batches
    have more negatives. Each rank uses the documents of its own batch (Huang et al. 2013,
    "Learning Deep Structured Semantic Models for Web Search using Clickthrough Data").

    Compile it with ``keras.losses.SparseCategoricalCrossentropy(from_logits=True)``; the
    label of a batch is `eai_notebook.models.clicked_places`.

    Args:
        buckets: Hash buckets of the trigrams; bucket 0 is padding.
        length: Trigrams of a query or document.
        hidden: Units of each tower's hidden layers.
        dim: Length of the vectors.
        unclicked: Unclicked documents that come with each query.
        smoothing: Factor on the cosines.

    Returns:
        An uncompiled model from ``{"query": int32 [batch, length], "documents": int32
        [batch, 1 + unclicked, length]}``, the clicked document first, to the scores of all
        documents of the batch for each query, float32 ``[batch, batch x (1 + unclicked)]``.
        Its towers are the layers ``query_tower`` and ``document_tower``, models of their own
        from int32 ``[texts, length]`` to float32 ``[texts, dim]``.

    Raises:
        EaiError: A size is below 1, or `unclicked` below 0.

    Examples:
        >>> model = dssm(buckets=500, length=8, hidden=(16,), dim=4)
        >>> text = np.ones((3, 8), "int32")
        >>> model({"query": text, "documents": text[:, None]}).shape
        TensorShape([3, 3])
    """
    if min(buckets, length, dim, *hidden) < 1 or unclicked < 0:
        raise EaiError(
            f"invalid sizes {(buckets, length, tuple(hidden), dim, unclicked)}",
            "use sizes of at least 1, and unclicked of at least 0",
            code="option-invalid",
        )
    query = keras.Input((length,), name="query", dtype="int32")
    documents = keras.Input((1 + unclicked, length), name="documents", dtype="int32")
    queries = _tower("query_tower", buckets, length, hidden, dim)(query)
    every = _tower("document_tower", buckets, length, hidden, dim)(
        ops.reshape(documents, (-1, length))
    )
    scores = ops.multiply(ops.matmul(queries, ops.transpose(every)), smoothing)
    return keras.Model({"query": query, "documents": documents}, scores, name="dssm")


def clicked_places(batch: int, unclicked: int = 0) -> NDArray[np.int32]:
    """Return the index of each query's clicked document in its batch: the labels of `dssm`.

    Examples:
        >>> clicked_places(3, unclicked=1).tolist()
        [0, 2, 4]
    """
    return np.arange(batch, dtype=np.int32) * (1 + unclicked)


def _tower(name: str, buckets: int, length: int, hidden: Sequence[int], dim: int) -> keras.Model:
    text = keras.Input((length,), name=name.removesuffix("_tower"), dtype="int32")
    # The first layer of a network on counts of trigrams is a sum of rows: one row for each.
    first, *others = [*hidden, dim]
    rows = keras.layers.Embedding(buckets, first, name=f"{name}_trigrams")(text)
    present = ops.expand_dims(ops.cast(ops.not_equal(text, 0), "float32"), -1)
    values: Any = ops.tanh(ops.sum(ops.multiply(rows, present), axis=1))
    for number, units in enumerate(others, start=2):
        values = keras.layers.Dense(units, activation="tanh", name=f"{name}_{number}")(values)
    return keras.Model(text, keras.layers.UnitNormalization(name=f"{name}_unit")(values), name=name)
