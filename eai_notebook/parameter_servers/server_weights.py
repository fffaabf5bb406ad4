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
    """What one server holds: some of the weights, their optimizer, a step's sums of gradients.

    ``places`` are the weights' places in the model's list. The optimizer begins with what the
    model's own knows, and gives it back; its variables have the same names. Updates are compiled
    here, once: a worker's step is traced inside TensorFlow's strategy, where no Keras optimizer
    runs.
    """

    def __init__(
        self, device: str, places: list[int], model: keras.Model, workers: int | None
    ) -> None:
        self.device = device
        self.places = places
        own = [model.trainable_variables[place] for place in places]
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
        """Add one worker's gradients to the step's sums."""
        with tf.device(self.device):
            for total, gradient in zip(self._sums, gradients, strict=True):
                if isinstance(gradient, tf.IndexedSlices):
                    total.scatter_add(gradient)
                else:
                    total.assign_add(gradient)

    def apply_sums(self) -> None:
        """Update the weights with the mean of the workers' gradients, and begin a new sum."""
        with tf.device(self.device):
            self._update(*(total.read_value() / self._workers for total in self._sums))
            for total in self._sums:
                total.assign(tf.zeros_like(total))

    def apply(self, gradients: Sequence[Any]) -> None:
        """Update the weights with one worker's gradients, as they come."""
        with tf.device(self.device):
            self._update(*(tf.convert_to_tensor(gradient) for gradient in gradients))

    def set_rate(self, rate: float) -> None:
        """Give the optimizer another learning rate."""
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
    """All weights of `model`, laid out over `count` servers by their bytes.

    With `workers`, servers sum up the gradients of so many before they update. What metrics
    count is summed up on the first server.
    """

    def __init__(self, model: keras.Model, count: int, workers: int | None) -> None:
        if count > len(model.trainable_variables):
            what = f"{count} servers cannot share {len(model.trainable_variables)} variables"
            raise EaiError(what, "start a group with fewer servers")
        sizes = [int(tf.size(variable.value)) for variable in model.trainable_variables]
        place = spread(sizes, count)
        self.servers = [
            Server(
                _device(number), [i for i, at in enumerate(place) if at == number], model, workers
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
            for place, weight in zip(server.places, server.weights, strict=True):
                values[place] = weight.read_value()
        return [values[place] for place in sorted(values)]

    def begin_epoch(self) -> None:
        """Count from zero."""
        for count in self.counts:
            count.assign(tf.zeros_like(count))

    def set_rate(self, rate: float) -> None:
        """Give all servers' optimizers another learning rate."""
        for server in self.servers:
            server.set_rate(rate)

    def take_home(self, model: keras.Model) -> None:
        """Give `model` and its optimizer the values that the servers have, and what was counted."""
        for variable, value in zip(model.trainable_variables, self.read(), strict=True):
            variable.assign(value)
        for variable, other in zip(model.non_trainable_variables, self.others, strict=True):
            variable.assign(other.read_value())
        for variable, count in zip(model.metrics_variables, self.counts, strict=True):
            variable.assign(count.read_value())
        at_home = by_name(model.optimizer.variables)
        for variable in (variable for server in self.servers for variable in server.state):
            at_home[variable.name].assign(variable.value.read_value())


def by_name(variables: Sequence[keras.Variable]) -> dict[str, keras.Variable]:
    """Return an optimizer's variables by their names.

    Raises:
        EaiError: Two have the same.
    """
    found = {variable.name: variable for variable in variables}
    if len(found) < len(variables):
        names = [variable.name for variable in variables]
        twice = next(name for name in names if names.count(name) > 1)
        raise EaiError(
            f"the optimizer has two variables `{twice}`, which servers could not tell apart",
            "give the model's layers different names",
        )
    return found


def put(values: Sequence[Any], device: str) -> list[tf.Variable]:
    """Make plain variables of `values` on `device`, outside of any strategy's own placement."""
    plain = [tf.convert_to_tensor(value) for value in values]
    with tf.device(device):
        return [tf.Variable(value, trainable=False) for value in plain]


def _stand_in(variable: keras.Variable) -> keras.Variable:
    """Return a variable that an optimizer takes for `variable`, by its path."""
    other = keras.Variable(variable.value, name=variable.name)
    other._path = variable.path  # noqa: SLF001 -- Keras makes it of the scopes it is in
    return other


def _move(variables: Sequence[keras.Variable], there: Sequence[tf.Variable]) -> None:
    """Have Keras's variables be the ones over there."""
    for variable, other in zip(variables, there, strict=True):
        variable._value = other  # noqa: SLF001 -- Keras itself only makes them where it runs


def _device(number: int) -> str:
    return f"/job:ps/replica:0/task:{number}/device:CPU:0"
