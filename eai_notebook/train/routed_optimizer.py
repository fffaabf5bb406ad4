"""`RoutedOptimizer`: several optimizers in one step, each for its variables."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import keras

from eai_notebook.errors import EaiError
from eai_notebook.train.autograph import not_converted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@keras.saving.register_keras_serializable(package="eai_notebook")
class RoutedOptimizer(keras.optimizers.Optimizer):
    """Give each trainable variable to the optimizer that its path names.

    Wide & Deep is trained jointly with FTRL on the wide part and another optimizer on the
    deep one (Cheng et al. 2016, section 3.3). Both update in the same step, so with
    `DistributedOptimizer` around it all gradients travel by the same exchange.

    - ``learning_rate`` is the rate of `default`, also where a callback sets it; the
      others keep theirs, which may be schedules.
    - Clipping by a global norm acts on each optimizer's own variables.

    Args:
        routes: Patterns of variable paths or of their ends, as file names have them
            (``"wide/*"``), and the optimizer of each; the first that matches counts.
        default: The optimizer of all other variables.
        name: The optimizer's name.

    Raises:
        EaiError: An optimizer that accumulates gradients or scales the loss: the parts would
            no longer step together. When it is built: a pattern that matches nothing.

    Examples:
        >>> optimizer = RoutedOptimizer(
        ...     {"wide/*": keras.optimizers.Ftrl(0.1)}, default=keras.optimizers.Adam(1e-3)
        ... )
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, name="wide"),
        ...                           keras.layers.Dense(1, name="deep")])
        >>> optimizer.build(model.trainable_variables)
        >>> type(optimizer.optimizer_of(model.get_layer("wide").kernel)).__name__
        'Ftrl'
    """

    def __init__(
        self,
        routes: Mapping[str, keras.optimizers.Optimizer | str],
        default: keras.optimizers.Optimizer | str = "adam",
        *,
        name: str | None = None,
    ) -> None:
        # The base class wants a rate to make a variable of; the default optimizer's counts.
        super().__init__(learning_rate=0.0, name=name or "routed")
        self.patterns = list(routes)
        self.parts = [keras.optimizers.get(inner) for inner in [*routes.values(), default]]
        """The optimizers, in the order of the patterns, the default last."""
        for part in self.parts:
            if part.gradient_accumulation_steps or hasattr(part, "inner_optimizer"):
                raise EaiError(
                    f"{part.name} wraps another optimizer or accumulates gradients",
                    "route to plain optimizers, and wrap the RoutedOptimizer",
                    code="optimizer-wrapped-twice",
                )
        self._places: dict[Any, int] = {}

    # ------------------------------------------------------------------ the step

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Make each optimizer's variables for its share of `variables`."""
        variables = list(variables)
        shares = self._shares(variables)
        for pattern, share in zip(self.patterns, shares, strict=False):
            if not share:
                paths = ", ".join(_path(variable) for variable in variables)
                raise EaiError(
                    f"no variable matches {pattern!r}", f"there are {paths}", code="option-invalid"
                )
        for number, (part, share) in enumerate(zip(self.parts, shares, strict=True)):
            part.build(share)
            self._places.update({self._var_key(variable): number for variable in share})
        super().build(variables)

    @not_converted
    def apply(
        self, grads: Sequence[Any], trainable_variables: Sequence[keras.Variable] | None = None
    ) -> None:
        """Update each variable by its optimizer."""
        grads = list(grads)
        if not grads:
            return
        variables = list(
            self._trainable_variables if trainable_variables is None else trainable_variables
        )
        if not self.built:
            self.build(variables)
        self._check_variables_are_known(variables)
        for number, part in enumerate(self.parts):
            share = [
                (gradient, variable)
                for gradient, variable in zip(grads, variables, strict=True)
                if self._places[self._var_key(variable)] == number
            ]
            if share:
                part.apply(*map(list, zip(*share, strict=True)))
        self._iterations.assign_add(1)

    def optimizer_of(self, variable: keras.Variable) -> keras.optimizers.Optimizer:
        """Return the optimizer that updates `variable`."""
        return self.parts[self._route(variable)]

    def _shares(self, variables: Sequence[keras.Variable]) -> list[list[keras.Variable]]:
        shares: list[list[keras.Variable]] = [[] for _ in self.parts]
        for variable in variables:
            shares[self._route(variable)].append(variable)
        return shares

    def _route(self, variable: Any) -> int:
        path = _path(variable)
        for number, pattern in enumerate(self.patterns):
            # A model within a model puts its own name in front.
            if fnmatchcase(path, pattern) or fnmatchcase(path, f"*/{pattern}"):
                return number
        return len(self.patterns)

    # ------------------------------------------------- what a Keras optimizer answers

    @property
    def variables(self) -> list[keras.Variable]:
        """The step's number, then the optimizers' variables in their order."""
        return [self._iterations, *(each for part in self.parts for each in part.variables)]

    @property
    def learning_rate(self) -> Any:
        """The default optimizer's learning rate."""
        return self.parts[-1].learning_rate

    @learning_rate.setter
    def learning_rate(self, learning_rate: Any) -> None:
        self.parts[-1].learning_rate = learning_rate

    def finalize_variable_values(self, var_list: Sequence[keras.Variable]) -> None:
        """Let each optimizer write its final values, such as moving averages."""
        for part, share in zip(self.parts, self._shares(var_list), strict=True):
            part.finalize_variable_values(share)

    def exclude_from_weight_decay(
        self, var_list: Sequence[Any] | None = None, var_names: Sequence[str] | None = None
    ) -> None:
        """Exclude variables from every optimizer's weight decay."""
        for part in self.parts:
            part.exclude_from_weight_decay(var_list, var_names)

    # ------------------------------------------------------------------ on disk

    def get_config(self) -> dict[str, Any]:
        """Return what `from_config` needs to make this optimizer again."""
        *routed, default = map(keras.saving.serialize_keras_object, self.parts)
        return {
            "name": self.name,
            "routes": dict(zip(self.patterns, routed, strict=True)),
            "default": default,
        }

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
    ) -> RoutedOptimizer:
        """Make an optimizer from `get_config`'s answer."""

        def again(inner: Any) -> Any:
            return keras.saving.deserialize_keras_object(inner, custom_objects=custom_objects)

        routes = {pattern: again(inner) for pattern, inner in config["routes"].items()}
        return cls(routes, again(config["default"]), name=config["name"])


def _path(variable: Any) -> str:
    """Return a variable's path; a plain TensorFlow variable has a name only."""
    return str(getattr(variable, "path", variable.name))
