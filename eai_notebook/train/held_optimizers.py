"""The optimizers that a Keras model holds: its own, and those that a GAN keeps beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras

from eai_notebook.train.optimizer import DistributedOptimizer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from eai_notebook.train.row_wise.row_table import RowWise


def optimizers(model: keras.Model) -> list[keras.optimizers.Optimizer]:
    """Return the model's optimizers, each once, ``model.optimizer`` first.

    Examples:
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        >>> model.compile("sgd", "mse")
        >>> model.critic_optimizer = keras.optimizers.Adam()
        >>> [type(each).__name__ for each in optimizers(model)]
        ['SGD', 'Adam']
    """
    found: dict[int, keras.optimizers.Optimizer] = {}
    for optimizer, _ in _places(model):
        found.setdefault(id(optimizer), optimizer)
    return list(found.values())


def is_distributed(optimizer: keras.optimizers.Optimizer) -> bool:
    """Return whether `optimizer` exchanges gradients, itself or in what it hands them to."""
    while optimizer is not None:
        if isinstance(optimizer, DistributedOptimizer):
            return True
        optimizer = getattr(optimizer, "inner_optimizer", None)
    return False


def distributed(model: keras.Model) -> list[DistributedOptimizer]:
    """Return the model's optimizers that exchange gradients, without a loss scale around them."""
    found = []
    for optimizer in optimizers(model):
        inner = optimizer
        while inner is not None and not isinstance(inner, DistributedOptimizer):
            inner = getattr(inner, "inner_optimizer", None)
        if inner is not None:
            found.append(inner)
    return found


def wrap_all(model: keras.Model) -> bool:
    """Put a `DistributedOptimizer` around each that is plain; return whether there was one."""
    wrapped: dict[int, DistributedOptimizer] = {}
    for optimizer, replace in list(_places(model)):
        if not is_distributed(optimizer):
            if id(optimizer) not in wrapped:
                wrapped[id(optimizer)] = DistributedOptimizer(optimizer)
            replace(wrapped[id(optimizer)])
    return bool(wrapped)


def update_by_rows(model: keras.Model, mode: RowWise | None) -> None:
    """Have the model's optimizers, all of which exchange gradients, update tables by rows.

    Functions of the model that were traced before do not know of it, and are made again. None
    leaves each optimizer as it was made.
    """
    if mode is None:
        return
    changed = [optimizer.update_by_rows(mode) for optimizer in distributed(model)]
    if any(changed):
        model.train_function = model.test_function = model.predict_function = None


def settle_rows(model: keras.Model) -> None:
    """Bring all rows of tables that are updated by rows up to date; on all ranks together."""
    for optimizer in distributed(model):
        if optimizer.row_tables is not None:
            optimizer.row_tables.settle()


def has_own_step(model: keras.Model) -> bool:
    """Return whether `model` has a ``train_step`` of its own."""
    return bool(type(model).train_step is not keras.Model.train_step)


def is_whole(model: keras.Model) -> bool:
    """Return whether all of `model`'s weights are there.

    A model may count as built while its layers are not: ``model.build(shape)`` of a subclass
    only notes the shape, where that has no ``build`` of its own.
    """
    layers = list(model._flatten_layers(include_self=False))  # noqa: SLF001 -- as Keras's fit does
    return bool(layers) and all(layer.built for layer in layers)


def _places(
    model: keras.Model,
) -> Iterator[tuple[keras.optimizers.Optimizer, Callable[[Any], None]]]:
    """Yield each optimizer with what puts another one in its place."""
    own = dict(vars(model))
    for name in sorted(own, key=lambda each: each != "optimizer"):
        value = own[name]
        if isinstance(value, keras.optimizers.Optimizer):
            yield value, _attribute(model, name)
        elif isinstance(value, dict | list):
            keys = list(value) if isinstance(value, dict) else range(len(value))
            for key in keys:
                if isinstance(value[key], keras.optimizers.Optimizer):
                    yield value[key], _item(value, key)


def _attribute(model: keras.Model, name: str) -> Callable[[Any], None]:
    return lambda optimizer: setattr(model, name, optimizer)


def _item(container: Any, key: Any) -> Callable[[Any], None]:
    def put(optimizer: Any) -> None:
        container[key] = optimizer

    return put
