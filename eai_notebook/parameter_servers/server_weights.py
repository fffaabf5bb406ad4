"""Weights and optimizer state on the parameter servers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

from eai_notebook.errors import EaiError
from eai_notebook.parameter_servers.server_layout import spread

if TYPE_CHECKING:
    from collections.abc import Sequence


class Server:
    """One server: some of the weights, their optimizer, and a step's sums of gradients.

    ``indices`` are the weights' indices in the model's list. The optimizer starts with the state of
    the model's own and returns it; its variables have the same names. Updates are compiled here:
    a worker's step is traced inside TensorFlow's strategy, where no Keras optimizer runs.
    """

    def __init__(
        self, device: str, indices: list[int], model: keras.Model, workers: int | None
    ) -> None:
        self.device = device
        self.indices = indices
        own = [model.trainable_variables[index] for index in indices]
        self.weights = put([variable.value for variable in own], device)
        stand_ins = [_stand_in(variable) for variable in own]
        _move(stand_ins, self.weights)
        settings = getattr(model.optimizer, "inner_optimizer", model.optimizer)
        self._optimizer = settings.from_config(settings.get_config())
        self._optimizer.build(stand_ins)
        known = by_name(model.optimizer.variables)
        state = self._optimizer.variables
        _move(state, put([known[variable.name].value for variable in state], device))
        self._stand_ins = stand_ins
        specs = [tf.TensorSpec(weight.shape, weight.dtype) for weight in self.weights]
        self._update = tf.function(self._applied, autograph=False).get_concrete_function(*specs)
        self._workers = workers
        self._sums = [] if workers is None else put([tf.zeros_like(w) for w in own], device)

    def add(self, gradients: Sequence[Any]) -> None:
        """Add one worker's gradients to the step's sums; None is one of a weight without effect."""
        with tf.device(self.device):
            for total, gradient in zip(self._sums, gradients, strict=True):
                if gradient is None:
                    continue
                if isinstance(gradient, tf.IndexedSlices):
                    total.scatter_add(gradient)
                else:
                    total.assign_add(gradient)

    def apply_sums(self) -> None:
        """Update the weights with the mean of the workers' gradients, and reset the sums."""
        with tf.device(self.device):
            self._update(*(total.read_value() / self._workers for total in self._sums))
            for total in self._sums:
                total.assign(tf.zeros_like(total))

    def apply(self, gradients: Sequence[Any]) -> None:
        """Update the weights with one worker's gradients at once."""
        with tf.device(self.device):
            whole = [
                tf.zeros_like(weight) if gradient is None else tf.convert_to_tensor(gradient)
                for weight, gradient in zip(self.weights, gradients, strict=True)
            ]
            self._update(*whole)

    def set_rate(self, rate: float) -> None:
        """Set the optimizer's learning rate."""
        with tf.device(self.device):
            self._optimizer.learning_rate = rate

    @property
    def state(self) -> list[keras.Variable]:
        """The optimizer's variables."""
        own: list[keras.Variable] = self._optimizer.variables
        return own

    def _applied(self, *gradients: tf.Tensor) -> None:
        with tf.device(self.device):
            self._optimizer.apply(list(gradients), self._stand_ins)


class Weights:
    """All weights of `model`, spread over `count` servers by their bytes.

    With `workers`, servers sum the gradients of that many workers before an update. States of
    metrics are summed on the first server.
    """

    def __init__(self, model: keras.Model, count: int, workers: int | None) -> None:
        if count > len(model.trainable_variables):
            what = f"{count} servers cannot share {len(model.trainable_variables)} variables"
            raise EaiError(what, "start a group with fewer servers", code="server-count-invalid")
        sizes = [int(tf.size(variable.value)) for variable in model.trainable_variables]
        server_of = spread(sizes, count)
        self.servers = [
            Server(
                _device(number),
                [i for i, at in enumerate(server_of) if at == number],
                model,
                workers,
            )
            for number in range(count)
        ]
        others = [variable.value for variable in model.non_trainable_variables]
        self.others = put(others, _device(0))
        self.counts = put([tf.zeros_like(v.value) for v in model.metrics_variables], _device(0))

    def read(self) -> list[tf.Tensor]:
        """Return the weights' values in the model's order."""
        values: dict[int, tf.Tensor] = {}
        for server in self.servers:
            for index, weight in zip(server.indices, server.weights, strict=True):
                values[index] = weight.read_value()
        return [values[index] for index in sorted(values)]

    def begin_epoch(self) -> None:
        """Reset the states of metrics to zero."""
        for count in self.counts:
            count.assign(tf.zeros_like(count))

    def set_rate(self, rate: float) -> None:
        """Set the learning rate of all servers' optimizers."""
        for server in self.servers:
            server.set_rate(rate)

    def copy_to(self, model: keras.Model) -> None:
        """Copy the servers' weights, optimizer state and metric states to `model`."""
        for variable, value in zip(model.trainable_variables, self.read(), strict=True):
            variable.assign(value)
        for variable, other in zip(model.non_trainable_variables, self.others, strict=True):
            variable.assign(other.read_value())
        for variable, count in zip(model.metrics_variables, self.counts, strict=True):
            variable.assign(count.read_value())
        own = by_name(model.optimizer.variables)
        for variable in (variable for server in self.servers for variable in server.state):
            own[variable.name].assign(variable.value.read_value())


def by_name(variables: Sequence[keras.Variable]) -> dict[str, keras.Variable]:
    """Return an optimizer's variables by their names.

    Raises:
        EaiError: Two variables have the same name.
    """
    found = {variable.name: variable for variable in variables}
    if len(found) < len(variables):
        names = [variable.name for variable in variables]
        twice = next(name for name in names if names.count(name) > 1)
        raise EaiError(
            f"the optimizer has two variables named `{twice}`",
            "give the model's layers different names",
            code="variable-names-equal",
        )
    return found


def put(values: Sequence[Any], device: str) -> list[tf.Variable]:
    """Create plain variables of `values` on `device`, outside any strategy's placement."""
    plain = [tf.convert_to_tensor(value) for value in values]
    with tf.device(device):
        return [tf.Variable(value, trainable=False) for value in plain]


def _stand_in(variable: keras.Variable) -> keras.Variable:
    """Return a variable with the path of `variable`, by which an optimizer identifies it."""
    other = keras.Variable(variable.value, name=variable.name)
    other._path = variable.path  # noqa: SLF001 -- Keras derives it from the current scopes
    return other


def _move(variables: Sequence[keras.Variable], others: Sequence[tf.Variable]) -> None:
    """Make each Keras variable use one of `others` as its storage."""
    for variable, other in zip(variables, others, strict=True):
        variable._value = other  # noqa: SLF001 -- Keras creates storage on its own device only


def _device(number: int) -> str:
    return f"/job:ps/replica:0/task:{number}/device:CPU:0"
