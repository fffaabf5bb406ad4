"""`fit`: train a compiled model on all ranks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

from eai_notebook import collective
from eai_notebook.errors import EaiError
from eai_notebook.train import parameter_servers, rank_consistency
from eai_notebook.train._callbacks import callbacks as around
from eai_notebook.train.checkpoint import Checkpoint
from eai_notebook.train.recording import step_clock
from eai_notebook.train.sharded.sharded_embedding import explained
from eai_notebook.train.sharded.sharded_variables import parts

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable


def fit(
    model: keras.Model,
    data: Any,
    epochs: int = 1,
    *,
    validation_data: Any = None,
    callbacks: Iterable[keras.callbacks.Callback] = (),
    checkpoint: str | os.PathLike[str] | Checkpoint | None = None,
    check_every: int | None = None,
    **fit_kwargs: Any,
) -> keras.callbacks.History:
    """Train `model` on this rank's `data`, together with all other ranks.

    A plain optimizer is wrapped in `DistributedOptimizer`; weights come from rank 0;
    every rank takes as many steps an epoch as the rank with the fewest batches has;
    metrics are those of all ranks; progress and files come from rank 0; each step is
    measured and the record shown. In a group with parameter servers (`%eai up --mode ps`)
    it trains on those instead; of a step there, its length alone is known.

    Args:
        model: A compiled Keras model, the same on all ranks.
        data: This rank's share, batched: `eai.io` data, a `tf.data.Dataset`, a
            `keras.utils.PyDataset`, or arrays ``(x, y)`` with ``batch_size=``.
        epochs: How often to go through the data.
        validation_data: This rank's share of it, as ``model.fit`` takes it.
        callbacks: The user's own.
        checkpoint: A folder for checkpoints, or a `Checkpoint`; training goes on from the
            newest one in it.
        check_every: Compare the ranks' weights after so many steps, not at an epoch's end only.
        fit_kwargs: Anything else that ``model.fit`` takes.

    Returns:
        Keras's history; its values are the same on all ranks.

    Raises:
        EaiError: The ranks' models, steps or weights differ, or bad input.

    Examples:
        >>> import numpy as np
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        >>> model.compile("sgd", "mse")
        >>> history = fit(model, (np.ones((8, 2)), np.ones((8, 1))), batch_size=4, verbose=0)
        >>> sorted(history.history)
        ['loss']

    """
    collective.ensure_formed()
    if (holders := parameter_servers.current()) is not None:
        extra = {"validation_data": validation_data, "callbacks": list(callbacks)}
        extra |= {"checkpoint": checkpoint, "check_every": check_every}
        from eai_notebook.train.parameter_servers import server_fit

        return server_fit.fit(holders, model, data, epochs, **extra, **fit_kwargs)
    rank_consistency.distribute(model, wrap=True)
    arguments = _common_steps(data, dict(fit_kwargs))
    if arguments.get("verbose", "auto") == "auto":
        # A bar that redraws itself is noise in a stream of several ranks' output.
        arguments["verbose"] = 2
    if collective.rank() != 0:
        arguments["verbose"] = 0
    if isinstance(data, tf.data.Dataset):
        arguments.setdefault("shuffle", False)  # Keras warns that it would not, by default
    _common_validation(model, validation_data, arguments)
    own = list(callbacks)
    if checkpoint is not None:
        own.append(Checkpoint.of(checkpoint, data))
    try:
        with step_clock.closing():
            return model.fit(
                **arguments,
                epochs=epochs,
                validation_data=validation_data,
                callbacks=around(*own, check_every=check_every),
            )
    except Exception as error:
        # Data that knows what was wrong says it better than TensorFlow's report of it.
        cause = getattr(data, "error", None) or explained(error)
        if isinstance(cause, EaiError):
            raise cause from None
        raise


def _common_steps(data: Any, arguments: dict[str, Any]) -> dict[str, Any]:
    """Return ``model.fit``'s arguments for as many steps as all ranks have.

    Raises:
        EaiError: The number of steps is unknown.

    """
    if collective.size() == 1:
        return arguments | _as_arguments(data)
    if arguments.get("steps_per_epoch") is not None:
        arguments["steps_per_epoch"] = rank_consistency.fewest(
            arguments["steps_per_epoch"], "steps"
        )
        return arguments | _as_arguments(data)
    if isinstance(data, tuple):
        return arguments | _as_arguments(_same_rows(data, arguments))
    steps = rank_consistency.fewest(_batches(data), "batches")
    if steps is None:
        raise EaiError(
            "the ranks cannot tell how many batches their data has, and a rank that ends "
            "first would leave the others waiting",
            "pass steps_per_epoch= and repeat the data, or "
            "data.apply(tf.data.experimental.assert_cardinality(n))",
        )
    if isinstance(data, tf.data.Dataset):
        return arguments | {"x": data if steps == _batches(data) else data.take(steps)}
    return arguments | {"x": data, "steps_per_epoch": steps}


def _common_validation(model: keras.Model, data: Any, arguments: dict[str, Any]) -> None:
    """Have all ranks validate equally long, where they look up each other's rows meanwhile.

    Raises:
        EaiError: The number of steps is unknown.

    """
    together = data is not None and collective.size() > 1 and parts(model.weights)
    if not together or arguments.get("validation_steps") is not None:
        return
    if isinstance(data, tuple | list):
        size = arguments.get("validation_batch_size") or arguments.get("batch_size") or 32
        count: int | None = -(-len(keras.tree.flatten(data)[0]) // size)
    else:
        count = _batches(data)
    steps = rank_consistency.fewest(count, "batches of validation data")
    if steps is None:
        raise EaiError(
            "the ranks cannot tell how many batches their validation data has, and they look up "
            "each other's rows in every one",
            "pass validation_steps=",
        )
    arguments["validation_steps"] = steps


def _as_arguments(data: Any) -> dict[str, Any]:
    """Spread ``(x, y)`` or ``(x, y, sample_weight)`` over the arguments that take them."""
    if isinstance(data, tuple):
        return dict(zip(("x", "y", "sample_weight"), data, strict=False))
    return {"x": data}


def _same_rows(arrays: tuple[Any, ...], arguments: dict[str, Any]) -> tuple[Any, ...]:
    """Cut arrays to as many rows as every rank has in whole batches, or in all."""
    length = len(keras.tree.flatten(arrays[0])[0])
    rows = rank_consistency.fewest(length, "rows") or 0
    batch = arguments.get("batch_size") or 32
    if rows > batch:
        rows -= rows % batch
    return tuple(keras.tree.map_structure(lambda array: array[:rows], part) for part in arrays)


def _batches(data: Any) -> int | None:
    """Return how many batches `data` has, None if it cannot tell."""
    known = getattr(data, "steps_per_epoch", None) or getattr(data, "num_batches", None)
    if known is not None:
        return int(known)
    if isinstance(data, tf.data.Dataset):
        count = int(data.cardinality())
        return count if count >= 0 else None
    try:
        return len(data)
    except TypeError:
        return None
