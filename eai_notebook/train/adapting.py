"""`adapt`: preprocessing layers adapted on the rows of all ranks at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from eai_notebook import collective
from eai_notebook.errors import EaiError
from eai_notebook.train import row_data, same_rows
from eai_notebook.train.layer_state import check_states

if TYPE_CHECKING:
    from collections.abc import Iterator


def adapt(layer: Any, data: Any, *, steps: int | None = None) -> None:
    """Adapt a preprocessing layer on the rows of all ranks: the same result on every rank.

    ``layer.adapt`` on a rank's own rows would give each rank another vocabulary or another mean.
    Give each rank its own rows, or all ranks the same; all must call it together. The result is
    that of ``layer.adapt`` on all rows: vocabularies exactly, means and variances up to rounding,
    bins within the layer's ``epsilon``. Without a group it is ``layer.adapt``.

    Args:
        layer: A `StringLookup`, `IntegerLookup`, `TextVectorization`, `Normalization`,
            `Discretization` or `FeatureSpace`.
        data: This rank's rows, as ``layer.adapt`` takes them.
        steps: How many batches of a dataset to look at, where it has no end.

    Raises:
        EaiError: No such layer, or one rank's data is of another kind.

    Examples:
        >>> layer = keras.layers.StringLookup()
        >>> adapt(layer, np.array(["b", "a", "b"]))
        >>> layer.get_vocabulary()
        ['[UNK]', np.str_('b'), np.str_('a')]
    """
    if not hasattr(layer, "adapt"):
        raise EaiError(
            f"a {type(layer).__name__} cannot be adapted",
            "give a preprocessing layer, such as StringLookup",
            code="layer-not-adaptable",
        )
    collective.ensure_formed()
    if steps is not None and isinstance(data, tf.data.Dataset):
        data, steps = data.take(steps), None
    same = collective.size() == 1 or same_rows.compared([same_rows.fingerprint(data)])[0]
    if same:
        layer.adapt(data) if steps is None else layer.adapt(data, steps=steps)
    else:
        _adapt_together(layer, data, steps)
    if isinstance(layer, keras.Layer):
        check_states(layer)


def _adapt_together(layer: Any, data: Any, steps: int | None) -> None:
    if isinstance(layer, keras.utils.FeatureSpace):
        _adapt_features(layer, data)
    elif isinstance(layer, keras.layers.Normalization):
        _adapt_normalization(layer, data, steps)
    elif isinstance(layer, keras.layers.Discretization):
        _adapt_bins(layer, data, steps)
    elif hasattr(layer, "_lookup_layer") or hasattr(layer, "token_counts"):
        _adapt_vocabulary(layer, data, steps)
    else:
        raise EaiError(
            f"it is unknown how the ranks' shares of what a {type(layer).__name__} adapts to are joined",
            "adapt it on the same rows on all ranks, before eai.shard",
            code="layer-not-adaptable",
        )


def _batches(data: Any, steps: int | None) -> Iterator[Any]:
    """Yield the batches of `data`; arrays and lists are one, with one row a sample."""
    if isinstance(data, list | tuple | np.ndarray) or tf.is_tensor(data) or hasattr(data, "iloc"):
        whole = data if tf.is_tensor(data) else np.asarray(data)
        yield whole[:, None] if len(whole.shape) == 1 else whole
        return
    for index, batch in enumerate(data):
        if steps is not None and index >= steps:
            return
        yield batch[0] if isinstance(batch, tuple) else batch


# ---------------------------------------------------------------- vocabularies


def _adapt_vocabulary(layer: Any, data: Any, steps: int | None) -> None:
    """Count tokens on every rank, add up the counts, and make the vocabulary of the sums."""
    look = getattr(layer, "_lookup_layer", layer)
    layer.reset_state()
    for batch in _batches(data, steps):
        if 0 not in getattr(batch, "shape", ()):
            layer.update_state(batch)
    _add_up(look.token_counts)
    if look.output_mode == "tf_idf":
        _add_up(look.token_document_counts)
        documents = collective.allreduce_numpy(np.array([look.num_documents.numpy()], np.int64))
        look.num_documents.assign(documents[0])
    layer.finalize_state()


def _add_up(table: Any) -> None:
    """Give every rank's table the sums of all ranks' counts."""
    tokens, counts = table.export()
    mine = dict(zip(tokens.numpy().tolist(), counts.numpy().tolist(), strict=True))
    totals: dict[Any, int] = {}
    for root in range(collective.size()):
        for token, count in collective.broadcast_object(mine, root).items():
            totals[token] = totals.get(token, 0) + count
    if totals:
        keys = tf.constant(list(totals), table.key_dtype)
        table.insert(keys, tf.constant(list(totals.values()), table.value_dtype))


# ------------------------------------------------------------------ statistics


def _adapt_normalization(layer: keras.layers.Normalization, data: Any, steps: int | None) -> None:
    """Join the ranks' means and variances, in float64."""
    arrays = row_data.kind_of(data) == "arrays" and not isinstance(data, list | tuple)
    batches = iter([np.asarray(data)]) if arrays else map(np.asarray, _each(data, steps))
    mean, problem = None, None
    try:
        count, mean, square = _moments(layer, batches)
    except Exception as error:  # noqa: BLE001 -- raised when all know, which would wait otherwise
        problem = error
    mine = None if mean is None else (count, mean, square, tuple(layer._build_input_shape))  # noqa: SLF001
    about = None if problem is None else " ".join(f"{type(problem).__name__}: {problem}".split())
    everyone = [collective.broadcast_object((mine, about), r) for r in range(collective.size())]
    if problem is not None:
        raise problem
    for rank, (found, failed) in enumerate(everyone):
        if failed is not None:
            raise EaiError(
                f"rank {rank} cannot adapt {layer.name} to its rows ({failed})",
                "give all ranks rows of one kind and shape",
                code="data-invalid",
            )
        if found is not None and not layer.built:
            layer.build(found[3])
    total: Any = (0.0, None, None)
    for found, _ in everyone:
        if found is not None:
            total = _joined_moments(total, found[:3])
    if total[1] is None:
        raise EaiError(
            "no rank has a row to adapt to", "give at least one rank some rows", code="no-data"
        )
    layer.adapt_mean.assign(total[1])
    layer.adapt_variance.assign(total[2])
    layer.finalize_state()


def _moments(layer: keras.layers.Normalization, batches: Iterator[np.ndarray]) -> Any:
    """Return count, mean and variance of this rank's batches; 0, None and None of none."""
    total: Any = (0.0, None, None)
    for batch in batches:
        if not layer.built:
            layer.build(batch.shape)
        axes = layer._reduce_axis  # noqa: SLF001 -- what Keras's own adapt uses
        wide = batch.astype(np.float64)
        count = float(np.prod([batch.shape[axis] for axis in axes], initial=1.0))
        if count:
            total = _joined_moments(total, (count, wide.mean(axes), wide.var(axes)))
    return total


def _each(data: Any, steps: int | None) -> Iterator[Any]:
    for index, batch in enumerate(data):
        if steps is not None and index >= steps:
            return
        yield batch[0] if isinstance(batch, tuple) else batch


def _joined_moments(one: Any, other: Any) -> tuple[float, Any, Any]:
    """Return count, mean and variance of two sets together.

    Examples:
        >>> _joined_moments((1.0, 0.0, 0.0), (1.0, 2.0, 0.0))
        (2.0, 1.0, 1.0)
    """
    if one[1] is None:
        return (*other,)
    count = one[0] + other[0]
    share = other[0] / count
    apart = other[1] - one[1]
    mean = one[1] + apart * share
    variance = one[2] * (1 - share) + other[2] * share + apart**2 * share * (1 - share)
    return count, mean, variance


def _adapt_bins(layer: keras.layers.Discretization, data: Any, steps: int | None) -> None:
    """Join the ranks' summaries of their values, and cut them into bins."""
    from keras.src.layers.preprocessing.discretization import merge_summaries

    layer.reset_state()
    whole = isinstance(data, np.ndarray) or tf.is_tensor(data) or hasattr(data, "iloc")
    for batch in [np.asarray(data)] if whole else _each(data, steps):
        if np.size(batch):
            layer.update_state(batch)
    summaries = [collective.broadcast_object(layer.summary, r) for r in range(collective.size())]
    joined = summaries[0]
    for summary in summaries[1:]:
        joined = merge_summaries(joined, summary, layer.epsilon)
    layer.summary = joined
    layer.finalize_state()


# -------------------------------------------------------------- feature spaces


def _adapt_features(space: keras.utils.FeatureSpace, data: Any) -> None:
    """Adapt each feature's layer on all ranks' values of it, as `FeatureSpace.adapt` does."""
    if isinstance(data, dict):
        data = tf.data.Dataset.from_tensor_slices(data)
    for name in space._list_adaptable_preprocessors():  # noqa: SLF001
        values = data.map(lambda row, name=name: row[name])
        if values.element_spec.shape.rank == 0:
            values = values.batch(128)
        if values.element_spec.shape.rank == 1:
            values = values.map(lambda value: tf.expand_dims(value, -1))
        _adapt_together(space.preprocessors[name], values, None)
    space._is_adapted = True  # noqa: SLF001
    space.get_encoded_features()
    space.built = True
    space._sublayers_built = True  # noqa: SLF001
