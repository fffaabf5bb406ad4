"""Click models: logistic regression, deep, wide & deep."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras

from eai_notebook.errors import EaiError
from eai_notebook.models.click_layers import CROSS_BUCKETS, ClickInputs, linear_in_ids, pairs_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eai_notebook.clicklog.click_schema import ClickSchema


def logistic_regression(
    schema: ClickSchema,
    *,
    crosses: Sequence[tuple[str, str]] | None = None,
    cross_buckets: int = CROSS_BUCKETS,
) -> keras.Model:
    """Return a sparse logistic regression: one weight for each id, cross and number.

    Fast and easy to interpret. With crosses it memorises combinations; it does not generalise to
    unseen ones. Train it with ``keras.optimizers.Ftrl``, whose `l1_regularization_strength` keeps
    weights without evidence at exactly zero (McMahan et al. 2013, "Ad Click Prediction: a
    View from the Trenches").

    Args:
        schema: The columns; `eai_notebook.io.CRITEO`.
        crosses: Pairs of categorical columns; those of the schema by default, none for ``()``.
        cross_buckets: Hash buckets of each cross: a few times the number of combinations.

    Returns:
        An uncompiled model from ``{"numbers": float32 [batch, integers], "ids": int32
        [batch, categoricals]}`` to click probabilities, float32 ``[batch, 1]``.

    Raises:
        EaiError: A cross names an unknown column, or has no bucket.

    Examples:
        >>> from eai_notebook.io import CRITEO
        >>> model = logistic_regression(CRITEO.with_buckets(100), crosses=())
        >>> model.count_params() == 26 * 100 + 13 + 1
        True
    """
    inputs = ClickInputs(schema)
    wide = linear_in_ids(inputs, pairs_of(schema, crosses), cross_buckets)
    # A dense layer brings the bias too.
    line = keras.layers.Dense(1, kernel_initializer="zeros", name="line")(inputs.numbers)
    return inputs.model(_click([wide, line]), "logistic_regression")


def deep(
    schema: ClickSchema, *, embedding_dim: int = 8, hidden: Sequence[int] = (64, 32)
) -> keras.Model:
    """Return the deep part of `wide_deep` alone: embeddings and a network on top.

    It generalises to unseen combinations and is bad at exceptions, which need weights of their
    own (Cheng et al. 2016, section 3.2).

    Args:
        schema: The columns; `eai_notebook.io.CRITEO`.
        embedding_dim: Length of an id's vector.
        hidden: Units of the hidden layers.

    Returns:
        An uncompiled model with the inputs and output of `wide_deep`.

    Raises:
        EaiError: A size is below 1.

    Examples:
        >>> from eai_notebook.io import CRITEO
        >>> deep(CRITEO.with_buckets(100)).output_shape
        (None, 1)
    """
    inputs = ClickInputs(schema)
    return inputs.model(_click([_network(inputs, embedding_dim, hidden)]), "deep")


def wide_deep(
    schema: ClickSchema,
    *,
    embedding_dim: int = 8,
    hidden: Sequence[int] = (64, 32),
    crosses: Sequence[tuple[str, str]] | None = None,
    cross_buckets: int = CROSS_BUCKETS,
) -> keras.Model:
    """Return a Wide & Deep click model: memorises combinations and generalises.

    The wide part is linear in every hashed id and in crosses of two columns; it memorises clicked
    combinations. The deep part is a network on a vector for each id and the integers; it
    generalises to unseen combinations. Both are trained jointly (Cheng et al. 2016,
    arXiv:1606.07792), each with its own optimizer: `eai_notebook.RoutedOptimizer` with
    ``"wide/*"`` for the first.

    Args:
        schema: The columns; `eai_notebook.io.CRITEO`.
        embedding_dim: Length of an id's vector.
        hidden: Units of the hidden layers.
        crosses: Pairs of categorical columns; those of the schema by default.
        cross_buckets: Hash buckets of each cross: a few times the number of combinations.

    Returns:
        An uncompiled model from ``{"numbers": float32 [batch, integers], "ids": int32
        [batch, categoricals]}`` to click probabilities, float32 ``[batch, 1]``.

    Raises:
        EaiError: A cross names an unknown column, or a size is below 1.

    Examples:
        >>> from eai_notebook.io import CRITEO
        >>> model = wide_deep(CRITEO.with_buckets(100), hidden=(16,))
        >>> model.output_shape
        (None, 1)
    """
    inputs = ClickInputs(schema)
    wide = linear_in_ids(inputs, pairs_of(schema, crosses), cross_buckets)
    return inputs.model(_click([wide, _network(inputs, embedding_dim, hidden)]), "wide_deep")


def _network(inputs: ClickInputs, embedding_dim: int, hidden: Sequence[int]) -> Any:
    """Return the deep part's logit, float32 ``[batch, 1]``."""
    if embedding_dim < 1 or min(hidden, default=1) < 1:
        raise EaiError(
            f"embedding_dim is {embedding_dim} and hidden is {tuple(hidden)}",
            "use sizes of at least 1",
            code="option-invalid",
        )
    vectors = keras.layers.Embedding(inputs.table, embedding_dim, name="embedding")(inputs.ids)
    values = keras.layers.Concatenate(name="deep_inputs")(
        [keras.layers.Flatten(name="flat")(vectors), inputs.numbers]
    )
    for number, units in enumerate(hidden, start=1):
        values = keras.layers.Dense(units, activation="relu", name=f"deep_{number}")(values)
    return keras.layers.Dense(1, name="deep_logit")(values)


def _click(parts: list[Any]) -> Any:
    logit = keras.layers.Add(name="logit")(parts) if len(parts) > 1 else parts[0]
    return keras.layers.Activation("sigmoid", name="click")(logit)
