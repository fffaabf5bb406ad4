"""`fit`: train a compiled model on all ranks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from eai_notebook import collective, parameter_servers
from eai_notebook.errors import EaiError
from eai_notebook.train import (
    fit_data,
    held_optimizers,
    rank_consistency,
    row_data,
    same_settings,
)
from eai_notebook.train._callbacks import callbacks_of
from eai_notebook.train.checkpoint import Checkpoint
from eai_notebook.train.fit_data import Batches
from eai_notebook.train.function_errors import of_python_function
from eai_notebook.train.recording import step_clock
from eai_notebook.train.sharded.sharded_embedding import explained

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

    from eai_notebook.train.row_wise.row_table import RowWise


def fit(  # noqa: PLR0913, PLR0917 -- what `model.fit` takes, in its order
    model: keras.Model,
    x: Any = None,
    y: Any = None,
    batch_size: int | None = None,
    epochs: int = 1,
    verbose: Any = "auto",
    callbacks: Iterable[keras.callbacks.Callback] | None = None,
    validation_split: float = 0.0,
    validation_data: Any = None,
    shuffle: bool = True,  # noqa: FBT001, FBT002 -- as Keras has it
    class_weight: dict[int, float] | None = None,
    sample_weight: Any = None,
    initial_epoch: int = 0,
    steps_per_epoch: int | None = None,
    validation_steps: int | None = None,
    validation_batch_size: int | None = None,
    validation_freq: Any = 1,
    *,
    data: Any = None,
    checkpoint: str | os.PathLike[str] | Checkpoint | None = None,
    check_every: int | None = None,
    name: str | None = None,
    elastic: bool = False,
    virtual_ranks: int | None = None,
    row_wise: RowWise | None = None,
) -> keras.callbacks.History:
    """Train `model` on this rank's rows, together with all other ranks.

    It takes what ``model.fit`` takes. A plain optimizer is wrapped in `DistributedOptimizer`;
    weights come from rank 0; vocabularies and adapted statistics must be the same on all ranks;
    every rank takes as many steps an epoch as the rank with the fewest batches has; metrics are
    those of all ranks; progress and files come from rank 0; each step is measured and the
    record shown. If all ranks were given the same rows, it says so: see `shard`. In a group with
    parameter servers (`%eai up --mode ps`) it trains on those instead; of a step there, its
    length alone is known.

    Args:
        model: A compiled Keras model, the same on all ranks.
        x: This rank's rows: arrays, tensors or pandas frames, also lists and dicts of them; a
            `tf.data.Dataset`, `eai_notebook.io` data, a `keras.utils.PyDataset` or a generator
            of batches; or ``(x, y)``, ``(x, y, sample_weight)`` in one tuple.
        y: The targets, where `x` is arrays. A whole number here is `epochs`, as in
            ``fit(model, data, 5)``.
        batch_size: Rows in each of this rank's batches, where `x` is arrays; 32 by default. The
            global batch is as many times larger as there are ranks.
        epochs: How often to go through the data.
        verbose: As in ``model.fit``; rank 0 alone shows anything.
        callbacks: The user's own.
        validation_split: The last share of the rows is kept for validation.
        validation_data: As ``model.fit`` takes it: a rank's part, or the same rows on all ranks.
            Either way, each row counts once in the metrics.
        shuffle: Mix arrays anew in each epoch.
        class_weight: Weights of the loss, by class.
        sample_weight: Weights of the loss, by row.
        initial_epoch: The epoch to begin with.
        steps_per_epoch: Steps of an epoch, where the data does not know.
        validation_steps: Steps of a validation, where the data does not know.
        validation_batch_size: Rows in a batch of validation data.
        validation_freq: After how many epochs to validate, or after which.
        data: `x` by another name.
        checkpoint: A folder for checkpoints, or a `Checkpoint`; training goes on from the
            newest one in it.
        check_every: Compare the ranks' weights after so many steps, not at an epoch's end only.
        name: What the run is called in charts and lists; by default the notebook and the model.
        elastic: Go on when ranks die or leave, with the losses of an undisturbed run. `x` is then
            arrays that every rank has whole, or a function of (rank, size) that opens the data of
            a virtual rank; see the guide on elastic training.
        virtual_ranks: How many virtual ranks share the rows, with `elastic`; as many as there are
            ranks by default. `batch_size` is that of each of them.
        row_wise: Update only those rows of embedding tables that a step has gradients of:
            ``"exact"``, with Keras's results, or ``"lazy"``; see `DistributedOptimizer`.

    Returns:
        Keras's history; its values are the same on all ranks.

    Raises:
        EaiError: The ranks' models, preprocessing, steps or weights differ, a rank has no rows,
            or bad input.

    Examples:
        >>> import numpy as np
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        >>> model.compile("sgd", "mse")
        >>> history = fit(model, np.ones((8, 2)), np.ones((8, 1)), batch_size=4, verbose=0)
        >>> sorted(history.history)
        ['loss']

    """
    x = _one_of(x, data)
    if isinstance(y, int | np.integer) and not isinstance(y, bool):
        epochs, y = int(y), None
    sizes = {"batch_size": batch_size, "validation_batch_size": validation_batch_size}
    steps = {"steps_per_epoch": steps_per_epoch, "validation_steps": validation_steps}
    fit_data.check_counts({**sizes, **steps, "epochs": epochs, "initial_epoch": initial_epoch})
    collective.ensure_formed()
    settings = {
        "class_weight": class_weight,
        "initial_epoch": initial_epoch,
        "validation_freq": validation_freq,
        "shuffle": shuffle and row_data.kind_of(x) not in ("dataset", "generator"),
        # A bar that redraws itself is noise in a stream of several ranks' output.
        "verbose": 0 if collective.rank() != 0 else 2 if verbose == "auto" else verbose,
    }
    own = keras.tree.flatten([] if callbacks is None else callbacks)
    if (holders := parameter_servers.current()) is not None:
        given = {**sizes, **steps, "verbose": verbose, "initial_epoch": initial_epoch}
        given |= {"class_weight": class_weight, "sample_weight": sample_weight, "name": name}
        given |= {"validation_split": validation_split or None, "check_every": check_every}
        given |= {"validation_data": validation_data, "callbacks": own, "checkpoint": checkpoint}
        of_ring = {"row_wise": row_wise, "elastic": elastic or None}
        _refuse(of_ring, "on parameter servers", "train in a ring")
        return _on_servers(holders, model, x if y is None else (x, y), epochs, given)
    if elastic:
        given = {"class_weight": class_weight, "validation_split": validation_split or None}
        given |= {"check_every": check_every, "row_wise": row_wise}
        _refuse(given, "with elastic=True", "train without elastic=True")
        batches = (None if callable(x) else x, y, sample_weight, batch_size)
        return _elastic(
            model,
            x,
            batches,
            (validation_data, validation_batch_size or batch_size),
            epochs=epochs,
            initial_epoch=initial_epoch,
            virtual_ranks=virtual_ranks,
            callbacks=own,
            checkpoint=checkpoint,
            shuffle=shuffle,
            verbose=verbose,
            validation_freq=validation_freq,
            steps_per_epoch=steps_per_epoch,
            validation_steps=validation_steps,
            name=name,
        )
    _refuse({"virtual_ranks": virtual_ranks}, "without elastic=True", "give elastic=True")
    rank_consistency.distribute(model, wrap=True)
    held_optimizers.update_by_rows(model, row_wise)
    train = _training(model, x, y, sample_weight, batch_size, steps_per_epoch)
    size = validation_batch_size or batch_size
    # (In validation data, a list is (x, y), as Keras reads it.)
    held = Batches.of(
        tuple(validation_data) if isinstance(validation_data, list) else validation_data,
        size,
        validation_steps,
    )
    has_held = validation_data is not None
    same_settings.check(
        {
            "epochs": epochs,
            "initial_epoch": initial_epoch,
            "validation_data": has_held,
            "validation_split": validation_split,
            "validation_freq": validation_freq,
            same_settings.CLASS_WEIGHT: class_weight,
        }
    )
    if collective.size() == 1:
        settings |= {"validation_split": validation_split}
        same: bool | None = None
        same_held: bool | None = False
    else:
        if validation_split and not has_held:
            train, held = _split(train, validation_split, size)
            has_held = True
        train, held, same, same_held = _shared_out(model, train, held if has_held else None)
    if checkpoint is not None:
        own.append(Checkpoint.of(checkpoint, x))
    if has_held:
        settings |= {
            "validation_data": _as_given(held),
            "validation_steps": held.steps,
            "validation_batch_size": size,
        }
    try:
        with step_clock.closing():
            return model.fit(
                x=train.x,
                y=train.y,
                sample_weight=train.weight,
                batch_size=train.batch_size,
                steps_per_epoch=train.steps,
                epochs=epochs,
                callbacks=callbacks_of(
                    own,
                    name=name,
                    check_every=check_every,
                    same_held=same_held,
                    same=same,
                    rows_compared=True,
                ),
                **settings,
            )
    except Exception as error:
        # Data that knows what was wrong says it better than TensorFlow's report of it.
        cause = getattr(x, "error", None) or explained(error) or of_python_function(error)
        if isinstance(cause, EaiError):
            raise cause from None
        raise


def _on_servers(
    holders: Any, model: keras.Model, rows: Any, epochs: int, given: dict[str, Any]
) -> keras.callbacks.History:
    """Train on parameter servers, with the settings that were given."""
    from eai_notebook.parameter_servers import server_fit

    given = {name: value for name, value in given.items() if value is not None}
    return server_fit.fit(holders, model, rows, epochs, **given)


def _one_of(x: Any, data: Any) -> Any:
    """Return the data, which goes by two names.

    Raises:
        EaiError: It was given by both.
    """
    if data is not None and x is not None:
        raise EaiError(
            "data was given twice, as x and as data=", "give it once", code="options-conflict"
        )
    return data if x is None else x


def _elastic(
    model: keras.Model,
    data: Any,
    rows: tuple[Any, Any, Any, int | None],
    held: tuple[Any, int | None],
    **settings: Any,
) -> keras.callbacks.History:
    """Train with ranks that come and go."""
    from eai_notebook.elastic import elastic_fit

    x, *others, size = rows
    if x is None:
        batches = Batches(None, batch_size=size)
    else:
        batches = _training(model, x, others[0], others[1], size, None)
    validation = None if held[0] is None else Batches.of(*held)
    wanted = elastic_fit.Settings(validation=validation, **settings)
    return elastic_fit.fit(model, data, batches, wanted)


def _refuse(given: dict[str, Any], where: str, remedy: str) -> None:
    """Refuse settings that mean nothing there, such as where ranks come and go.

    Raises:
        EaiError: One is given.
    """
    for name, value in given.items():
        if value is not None:
            raise EaiError(
                f"{name}= has no meaning {where}",
                f"leave it out, or {remedy}",
                code="not-elastic",
            )


def _training(
    model: keras.Model, x: Any, y: Any, weight: Any, batch_size: int | None, steps: int | None
) -> Batches:
    """Return the training data that was given, in whichever way.

    Raises:
        EaiError: There is none, or ``[x, y]`` was given to a model with one input.
    """
    if x is None:
        raise EaiError(
            "fit was called without data",
            "eai.fit(model, x, y) or eai.fit(model, data)",
            code="no-data",
        )
    if y is not None or weight is not None:
        return Batches(x, y, weight, batch_size, steps)
    inputs = getattr(model, "inputs", None)
    if isinstance(x, list) and row_data.kind_of(x) == "arrays" and len(inputs or x) != len(x):
        raise EaiError(
            f"a list of {len(x)} arrays was given to a model with {len(inputs or ())} input, and a "
            "list means several inputs",
            "give inputs and targets as eai.fit(model, x, y) or eai.fit(model, (x, y))",
            code="data-invalid",
        )
    return Batches.of(x, batch_size, steps)


def _split(train: Batches, share: float, batch_size: int | None) -> tuple[Batches, Batches]:
    """Split the last `share` of this rank's rows off, as Keras does.

    Raises:
        EaiError: The data is no arrays, or no row would be left on one side.
    """
    if train.kind != "arrays":
        raise EaiError(
            "validation_split= is for arrays alone", "pass validation_data=", code="data-invalid"
        )
    rows = row_data.rows_in(train.arrays)
    at = int(rows * (1.0 - share))
    # (All ranks must see it: one that stopped here alone would leave the others waiting.)
    if rank_consistency.any_rank(not 0 < at < rows):
        raise EaiError(
            f"validation_split={share} leaves a rank without rows to train on or to validate "
            f"(this rank has {rows})",
            "take another share, or share the rows out evenly with eai.shard(data)",
            code="too-few-rows",
        )
    held = train.rows(at, rows)
    return train.rows(0, at), Batches(held.x, held.y, held.weight, batch_size)


def _shared_out(
    model: keras.Model, train: Batches, held: Batches | None
) -> tuple[Batches, Batches, bool | None, bool | None]:
    """Return what this rank trains and validates on, and whether all have the same of either."""
    same, same_held = fit_data.compare(train, held)
    fit_data.warn_same_rows(same)
    train = fit_data.align(train)
    if held is None:
        return train, Batches(None), same, False
    shared = fit_data.share_evaluation(model, held, same=same_held)
    return train, shared.batches, same, shared.same


def _as_given(held: Batches) -> Any:
    """Return validation data as ``model.fit`` takes it."""
    if held.weight is not None:
        return held.x, held.y, held.weight
    return held.x if held.y is None else (held.x, held.y)
