"""Check or establish what must be equal on all ranks: shapes, step counts, initial state.

A difference here shows later as a hang or as replicas that drift apart, so it is an
error that names the rank, while everyone is still listening.
"""

from __future__ import annotations

import hashlib
from typing import Any

import keras
import numpy as np

from eai_notebook import collective
from eai_notebook.errors import EaiError
from eai_notebook.train import held_optimizers
from eai_notebook.train.carried_states import in_common
from eai_notebook.train.held_optimizers import has_own_step, is_whole
from eai_notebook.train.optimizer import DistributedOptimizer
from eai_notebook.train.replica_check import checksum
from eai_notebook.train.seeds import separate_seeds
from eai_notebook.train.sharded.sharded_variables import copies, shard_of


def distribute(model: keras.Model, *, wrap: bool) -> None:
    """See to it that `model`'s optimizer exchanges gradients.

    A loss scale that Keras put around the distributed optimizer is moved inside: outside
    each rank would decide alone whether to skip a step, and the others would wait for it.

    Args:
        model: A compiled model.
        wrap: Wrap a plain optimizer, instead of refusing it.

    Raises:
        EaiError: The model is not compiled, uses a `tf.distribute` strategy, or has a
            plain optimizer that must not be wrapped.

    """
    optimizer = getattr(model, "optimizer", None)
    if optimizer is None:
        raise EaiError(
            "the model has no optimizer",
            "call model.compile(optimizer=...) first",
            code="model-not-compiled",
        )
    if getattr(model, "_distribute_strategy", None) is not None:
        raise EaiError(
            "the model was made under a tf.distribute strategy",
            "make it outside: the ranks are the replicas here",
            code="strategy-unsupported",
        )
    inner = getattr(optimizer, "inner_optimizer", None)
    if isinstance(inner, DistributedOptimizer):
        optimizer.inner_optimizer = inner.inner_optimizer
        model.optimizer = DistributedOptimizer(
            optimizer, wire=inner.wire, sparse=inner.sparse, row_wise=inner.row_wise
        )
        model.train_function = None
        model.make_train_function()
    if wrap:
        if held_optimizers.wrap_all(model):
            model.train_function = None
    elif not held_optimizers.is_distributed(model.optimizer) and not has_own_step(model):
        # (What a step of the user's own exchanges is known when it has been compiled.)
        refuse_plain("the model's optimizer does not exchange gradients")


def refuse_plain(what: str) -> None:
    """Refuse, because of `what`, to train without exchanging gradients, where there is anybody to exchange with.

    Raises:
        EaiError: There is.
    """
    if collective.exchanges():
        raise EaiError(
            f"{what}, so the ranks would drift apart",
            "compile with optimizer=eai.DistributedOptimizer(...), or use eai.fit",
            code="gradients-not-exchanged",
        )


def check_same(model: keras.Model, steps: int | None) -> None:
    """Raise on all ranks if they are about to train different things.

    `steps` is the steps of an epoch, None if unknown.

    Raises:
        EaiError: The ranks' weights differ in shape or kind, or their steps in number.

    """
    if collective.size() == 1:
        return
    shapes = [
        # Ranks meet by a part's name, so it must be the same on all.
        (tuple(v.shape), str(v.dtype), getattr(shard_of(v), "name", None))
        for v in model.weights
    ]
    digest = hashlib.sha256(repr(shapes).encode()).digest()[:6]
    table = collective.gather_numpy(
        np.array([int.from_bytes(digest, "big"), -1 if steps is None else steps], np.int64)
    )
    for other, (weights, count) in enumerate(table.tolist()):
        if weights != table[0, 0]:
            raise EaiError(
                f"rank {other}'s model has other weights than rank 0's",
                "build the same model on all ranks",
                code="ranks-have-different-models",
            )
        if count != table[0, 1]:
            raise EaiError(
                f"an epoch has {_count(table[0, 1])} on rank 0 but {_count(count)} on rank {other}",
                "give all ranks equally many batches, with dataset.take(n), or use eai.fit",
                code="ranks-have-different-steps",
            )


def share_state(model: keras.Model) -> None:
    """Take over weights and optimizer state from rank 0.

    Seeds stay each rank's own, so that dropout differs between them. Weights that are not
    there yet are shared by the optimizer when it sees them, before the first step runs.
    """
    separate_seeds(model)
    if not collective.exchanges():
        return
    whole = is_whole(model)
    own = [each for each in held_optimizers.distributed(model) if _ready(model, each, whole=whole)]
    states = [variable for optimizer in own for variable in optimizer.variables]
    collective.broadcast_variables([*in_common(model, model.weights), *copies(states)])
    for optimizer in own:
        optimizer.exchange_memory.share()
        optimizer.shared = optimizer.shared or whole


def _ready(model: keras.Model, optimizer: DistributedOptimizer, *, whole: bool) -> bool:
    """Return whether all ranks have the state of `optimizer`; that of most models is made here.

    A rank that has restored a backup may be alone in having it.
    """
    built = collective.gather_numpy(np.array([int(optimizer.built)], np.int64)).ravel()
    main = optimizer is getattr(model.optimizer, "inner_optimizer", None)
    main = main or optimizer is model.optimizer
    if whole and main and not optimizer.built and (built.any() or not has_own_step(model)):
        optimizer.build(model.trainable_variables)
        return True
    return bool(built.all()) or (whole and main and (bool(built.any()) or not has_own_step(model)))


def share_epoch(model: keras.Model) -> None:
    """Take over from rank 0 the epoch that training begins with."""
    model._initial_epoch = collective.broadcast_object(model._initial_epoch)  # noqa: SLF001


def average_statistics(model: keras.Model, *, made_so: bool = False) -> None:
    """Average what layers have counted on their own rank, such as batch statistics.

    Whole numbers and flags are taken over from rank 0. What is the same on all ranks, such as
    frozen weights, keeps its bits; so do states that a layer carries from batch to batch.

    Args:
        model: Its weights that are not trained.
        made_so: Leave weights alone that a layer trains, unless it is frozen: if those differ,
            the ranks have other models.
    """
    if collective.size() == 1:
        return
    counted = in_common(model, model.non_trainable_weights)
    if made_so:
        own = {id(variable) for variable in _never_trained(model)}
        counted = [variable for variable in counted if id(variable) in own]
    if not counted:
        return
    sums = np.array([checksum(np.asarray(variable)) for variable in counted], np.int64)
    table = collective.gather_numpy(sums)
    differ = (table != table[0]).any(axis=0)
    changed = [variable for variable, differs in zip(counted, differ, strict=True) if differs]
    floats = [v for v in changed if keras.backend.is_float_dtype(v.dtype)]
    if floats:
        flat = [np.asarray(v, np.float64).ravel() for v in floats]
        mean = collective.allreduce_numpy(np.concatenate(flat)) / collective.size()
        parts = np.split(mean, np.cumsum([values.size for values in flat])[:-1])
        for variable, values in zip(floats, parts, strict=True):
            variable.assign(values.reshape(variable.shape))
    collective.broadcast_variables([v for v in changed if all(v is not each for each in floats)])


def _never_trained(model: keras.Model) -> list[Any]:
    """Return the weights that layers made so as not to be trained, such as batch statistics."""
    layers = model._flatten_layers()  # noqa: SLF001 -- the only way to those inside others
    return [v for layer in layers for v in layer._non_trainable_variables]  # noqa: SLF001


def any_rank(flag: bool) -> bool:  # noqa: FBT001 -- the one thing it is about
    """Return whether `flag` is set on any rank."""
    return bool(collective.allreduce_numpy(np.array([int(flag)]), largest=True)[0])


def fewest(count: int | None, what: str) -> int | None:
    """Return the smallest `count` of all ranks.

    Raises:
        EaiError: Only some ranks know their count of `what`.

    """
    table = collective.gather_numpy(np.array([-1 if count is None else count], np.int64))[:, 0]
    if (table >= 0).any() and (table < 0).any():
        unknown = int(np.argmax(table < 0))
        remedy = "pass steps_per_epoch="
        raise EaiError(
            f"rank {unknown} does not know how many {what} it has", remedy, code="steps-unknown"
        )
    smallest = int(table.min())
    return None if smallest < 0 else smallest


def _count(steps: Any) -> str:
    return "an unknown number of steps" if steps < 0 else f"{int(steps)} steps"
