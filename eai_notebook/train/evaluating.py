"""`evaluate` and `predict`: rows shared out over the ranks, the result whole on all of them."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from eai_notebook import collective
from eai_notebook.errors import EaiError
from eai_notebook.train import fit_data, same_rows
from eai_notebook.train.fit_data import Batches
from eai_notebook.train.global_metrics import reduce_metrics

if TYPE_CHECKING:
    from collections.abc import Iterable


def evaluate(  # noqa: PLR0913, PLR0917 -- what `model.evaluate` takes, in its order
    model: keras.Model,
    x: Any = None,
    y: Any = None,
    batch_size: int | None = None,
    verbose: Any = "auto",
    sample_weight: Any = None,
    steps: int | None = None,
    callbacks: Iterable[keras.callbacks.Callback] | None = None,
    return_dict: bool = False,  # noqa: FBT001, FBT002 -- as Keras has it
) -> Any:
    """Return the model's metrics over the rows of all ranks, as ``model.evaluate`` does.

    Give every rank the same rows, which are then shared out, or each rank its own part: each row
    counts once, also in metrics that count, such as true positives. Metrics of the user's own
    that keep no sums are computed on all rows by every rank where these have the same rows, and
    averaged over the ranks where not. Without a group it is ``model.evaluate``.

    Args:
        model: A compiled Keras model with the same weights on all ranks.
        x: Rows, in any form that `fit` takes; or ``(x, y)``.
        y: The targets, where `x` is arrays.
        batch_size: Rows in a batch, where `x` is arrays; 32 by default.
        verbose: As in ``model.evaluate``; rank 0 alone shows anything, and its part only.
        sample_weight: Weights by row.
        steps: Batches to evaluate, if the data has no known length.
        callbacks: The user's own.
        return_dict: Return metrics by name, not as a list.

    Returns:
        The loss and the metrics, the same on all ranks.

    Raises:
        EaiError: Bad input.

    Examples:
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        >>> model.compile("sgd", "mse")
        >>> sorted(evaluate(model, np.ones((8, 2)), np.ones((8, 1)), verbose=0, return_dict=True))
        ['loss']
    """
    whole = _given(x, y, sample_weight, batch_size, steps, "evaluate")
    shared = fit_data.Evaluation(whole, same=False)
    if collective.size() > 1:
        _check_built_alike(model)
        same = same_rows.compared([same_rows.fingerprint(whole.arrays)])[0]
        shared = fit_data.share_evaluation(model, whole, same=same)
    mine = shared.batches
    logs = model.evaluate(
        x=mine.x,
        y=mine.y,
        batch_size=mine.batch_size,
        verbose=verbose if collective.rank() == 0 else 0,
        sample_weight=mine.weight,
        steps=mine.steps,
        callbacks=None if callbacks is None else list(callbacks),
        return_dict=True,
    )
    if collective.size() > 1:
        logs = reduce_metrics(model, logs, same=shared.same)
    if return_dict:
        return logs
    return model._flatten_metrics_in_order(logs)  # noqa: SLF001 -- as Keras orders them


def predict(
    model: keras.Model,
    x: Any,
    batch_size: int | None = None,
    verbose: Any = "auto",
    steps: int | None = None,
    callbacks: Iterable[keras.callbacks.Callback] | None = None,
) -> Any:
    """Return the model's outputs for all rows, in their order, on every rank.

    Give every rank the same rows, which are then shared out, or each rank its own part: then
    the outputs of rank 0's rows come first. Without a group it is ``model.predict``.

    Args:
        model: A Keras model with the same weights on all ranks.
        x: Rows, in any form that ``model.predict`` takes.
        batch_size: Rows in a batch, where `x` is arrays; 32 by default.
        verbose: As in ``model.predict``; rank 0 alone shows anything, and its part only.
        steps: Batches to predict, if the data has no known length.
        callbacks: The user's own; they see this rank's batches.

    Returns:
        Arrays in the nesting of the model's outputs, the same on all ranks.

    Raises:
        EaiError: Bad input.

    Examples:
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
        >>> predict(model, np.ones((8, 2)), verbose=0).shape
        (8, 3)
    """
    whole = _given(x, None, None, batch_size, steps, "predict", targets=False)
    same: bool | None = True
    mine, joins = whole, False
    if collective.size() > 1:
        _check_built_alike(model)
        same = same_rows.compared([same_rows.fingerprint(whole.arrays)])[0]
        part = fit_data.share_prediction(model, whole, same=same)
        mine, joins = (whole, same is not True) if part is None else (part, True)
    outputs = model.predict(
        mine.x,
        batch_size=mine.batch_size,
        verbose=verbose if collective.rank() == 0 else 0,
        steps=mine.steps,
        callbacks=None if callbacks is None else list(callbacks),
    )
    if not joins or (same is None and _equal(outputs)):
        return outputs
    return keras.tree.map_structure(_joined, outputs)


def _given(
    x: Any,
    y: Any,
    weight: Any,
    batch_size: int | None,
    steps: int | None,
    name: str,
    *,
    targets: bool = True,
) -> Batches:
    """Return what was given, after a look at it.

    Raises:
        EaiError: Nothing was given, or a size is no whole number.
    """
    if x is None:
        raise EaiError(f"{name} was called without data", f"eai.{name}(model, x)", code="no-data")
    fit_data.check_counts({"batch_size": batch_size, "steps": steps})
    collective.ensure_formed()
    if targets and y is None and weight is None:
        return Batches.of(x, batch_size, steps)
    return Batches(x, y, weight, batch_size, steps)


def _check_built_alike(model: keras.Model) -> None:
    """Refuse ranks whose models have other weights: their results do not belong together.

    What layers have counted in a loop of the user's own, each rank on its rows, becomes one
    statistic first, as at the end of an epoch of `fit`.

    Raises:
        EaiError: The weights differ in number, shape or value.
    """
    from eai_notebook.train import rank_consistency
    from eai_notebook.train.carried_states import in_common
    from eai_notebook.train.replica_check import check_replicas

    rank_consistency.check_same(model, None)
    rank_consistency.average_statistics(model, made_so=True)
    check_replicas(in_common(model, model.weights))


def _equal(outputs: Any) -> bool:
    """Return whether all ranks have the same outputs, to the last bit."""
    bits = b"".join(np.asarray(leaf).tobytes() for leaf in keras.tree.flatten(outputs))
    table = collective.gather_numpy(np.array([zlib.crc32(bits), len(bits)], np.int64))
    return bool((table == table[0]).all())


def _joined(mine: Any) -> np.ndarray:
    """Return the ranks' outputs, one after the other."""
    if isinstance(mine, tf.RaggedTensor | tf.SparseTensor):
        raise EaiError(
            "the model's outputs are ragged or sparse, and such cannot be gathered",
            "call model.predict on each rank",
            code="output-not-gathered",
        )
    mine = np.asarray(mine)
    if mine.dtype.kind in "OSU":
        return _joined_texts(mine)
    with tf.device("CPU:0"):
        carried = mine.astype(np.int32) if mine.dtype == bool else mine
        found: np.ndarray = collective.allgather(tf.constant(carried), "predict").numpy()
    return found.astype(mine.dtype)


def _joined_texts(mine: np.ndarray) -> np.ndarray:
    """Return the ranks' texts, as bytes, one after the other: no backend sends text."""
    texts = [each.encode() if isinstance(each, str) else bytes(each) for each in mine.ravel()]
    ranks = range(collective.size())
    everyone = [collective.broadcast_object((list(mine.shape), texts), root) for root in ranks]
    return np.concatenate([np.array(part, object).reshape(shape) for shape, part in everyone])
