"""One training step of a virtual rank, without any effect, and the update by the sum of all.

A virtual rank's step begins with the state that all have in common: its seeds are a function of
its number and the step's, and what its layers and metrics count is taken as a difference, then
put back. So a step can be made again, by another rank, and comes to the same.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from eai_notebook.elastic.contribution import Contribution, Slices
from eai_notebook.errors import EaiError
from eai_notebook.train.seeds import seed_states

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import keras


class VirtualStep:
    """The steps of a model's virtual ranks.

    Args:
        model: Compiled and built, its optimizer too.
        base: What all seeds of the training follow from: whole numbers.
    """

    def __init__(self, model: keras.Model, base: Sequence[int]) -> None:
        self._model, self.base = model, [int(number) for number in base]
        self._seeds = seed_states(model)
        seeds = {id(state) for state in self._seeds}
        self._statistics = [v for v in model.non_trainable_variables if id(v) not in seeds]
        metrics = {id(v) for v in model.metrics_variables}
        self._statistics = [v for v in self._statistics if id(v) not in metrics]
        self._counts = list(model.metrics_variables)
        self._weights = list(model.trainable_variables)
        self._train = self._compiled(self._train_once)
        self._test = self._compiled(self._test_once)
        self._update: Any = tf.function(self._apply, autograph=False, reduce_retracing=True)
        self._tables: list[int] = []

    def prepare(self, batch: Any) -> None:
        """Compile the step for `batch`, and find out which gradients are rows of a table."""
        asked = batch, self._seeds_of(0, 0)
        if self._model.run_eagerly:
            gradients, _ = self._train(*asked)
        else:
            gradients, _ = self._train.get_concrete_function(*asked).structured_outputs
        rows = [isinstance(gradient, tf.IndexedSlices) for gradient in gradients]
        self._tables = [index for index, is_rows in enumerate(rows) if is_rows]

    def rehearse(self, batch: Any) -> None:
        """Make a step by this rank alone, so that the next one finds all compiled.

        It changes the model: whatever it changes is to be set afterwards.
        """
        total = self.train([(0, batch)], 0)
        total.tables = [table.merged() for table in total.tables]
        self.finish(total)

    # ------------------------------------------------------------- of virtual ranks

    def train(self, batches: Sequence[tuple[int, Any]], number: int) -> Contribution:
        """Return what a step gives, number `number` of the training.

        Args:
            batches: Virtual ranks with their batches; none is possible.
            number: It counts over all epochs.
        """
        given = [self._train(batch, self._seeds_of(virtual, number)) for virtual, batch in batches]
        dense, tables = self._split([gradients for gradients, _ in given])
        counted = [differences for _, differences in given]
        parts = [_flat_sum(dense, self._dense), _flat_sum(counted, self._counted)]
        parts.append(np.array([float(len(batches))]))
        return Contribution(np.concatenate(parts), tables)

    def evaluate(self, batches: Iterator[Any]) -> Contribution:
        """Return what metrics count on batches, beginning from nothing."""
        total = np.zeros(_length(self._counted))
        for batch in batches:
            total += _flat_sum([self._test(batch, [])[1]], self._counted)
        return Contribution(total[_length(self._statistics) :])

    # ----------------------------------------------------------------- of all ranks

    def finish(self, total: Contribution) -> None:
        """Update weights, statistics and metrics with the sum of all virtual ranks."""
        sizes = [_length(self._dense), _length(self._counted)]
        gradients, counted, runs = np.split(total.numbers, np.cumsum(sizes))
        mean = iter(_cut(gradients / runs[0], self._dense))
        tables = iter(total.tables)
        given = []
        for index, weight in enumerate(self._weights):
            if index in self._tables:
                rows = next(tables)
                values = (rows.values / runs[0]).astype(str(weight.dtype))
                shape = tf.constant(tuple(weight.shape), tf.int64)
                given.append(
                    tf.IndexedSlices(tf.constant(values), tf.constant(rows.indices), shape)
                )
            else:
                given.append(tf.constant(next(mean)))
        self._update(given)
        many = _length(self._statistics)
        _add(self._statistics, counted[:many] / runs[0])
        _add(self._counts, counted[many:])

    def set_counts(self, total: np.ndarray) -> None:
        """Set metrics to what all ranks together have counted."""
        for variable, values in zip(self._counts, _cut(total, self._counts), strict=True):
            variable.assign(values)

    # ------------------------------------------------------------------------ inside

    @property
    def _counted(self) -> list[keras.Variable]:
        return [*self._statistics, *self._counts]

    @property
    def _dense(self) -> list[keras.Variable]:
        """The weights whose gradients are not a few rows."""
        return [v for index, v in enumerate(self._weights) if index not in self._tables]

    def _seeds_of(self, virtual: int, number: int) -> list[tf.Tensor]:
        return [
            tf.constant(numbers_from([*self.base, index, virtual, number], state))
            for index, state in enumerate(self._seeds)
        ]

    def _compiled(self, step: Any) -> Any:
        if self._model.run_eagerly:
            return step
        return tf.function(step, autograph=False, reduce_retracing=True)

    def _train_once(self, batch: Any, seeds: Sequence[tf.Tensor]) -> Any:
        """Return the gradients of one batch, and what layers and metrics have counted."""
        for state, values in zip(self._seeds, seeds, strict=True):
            state.assign(values)
        with _collected(self._model) as gradients, self._counting() as differences:
            self._model.train_step(batch)
        found = [gradients.get(id(weight)) for weight in self._weights]
        for index, weight in enumerate(self._weights):
            if found[index] is None:
                found[index] = tf.zeros(weight.shape, weight.dtype)
        return found, differences

    def _test_once(self, batch: Any, _: Any) -> Any:
        with self._counting() as differences:
            self._model.test_step(batch)
        return [], differences

    @contextlib.contextmanager
    def _counting(self) -> Iterator[list[tf.Tensor]]:
        """Yield a list for what the block adds to statistics and metrics; it is put back."""
        counted = [v.value for v in self._counted]
        before = [v.read_value() for v in counted]
        differences: list[tf.Tensor] = []
        yield differences
        for variable, old in zip(counted, before, strict=True):
            new = variable.read_value()
            differences.append(tf.cast(new, tf.float64) - tf.cast(old, tf.float64))
            variable.assign(old)

    def _apply(self, gradients: list[Any]) -> None:
        optimizer = self._model.optimizer
        optimizer = getattr(optimizer, "inner_optimizer", optimizer)
        optimizer.apply(gradients, self._weights)

    def _split(self, given: list[list[Any]]) -> tuple[list[list[Any]], list[Slices]]:
        """Return the dense gradients of each virtual rank, and the rows of tables of all."""
        dense = [[g for i, g in enumerate(one) if i not in self._tables] for one in given]
        tables = []
        for index in self._tables:
            weight = self._weights[index]
            none = Slices(np.zeros(0, np.int64), np.zeros((0, *weight.shape[1:]), weight.dtype))
            tables.append(Slices.joined([none, *(_rows(one[index]) for one in given)]))
        return dense, tables


@contextlib.contextmanager
def _collected(model: keras.Model) -> Iterator[dict[int, Any]]:
    """Yield what the block hands to the model's optimizer, by weight, instead of an update."""
    found: dict[int, Any] = {}
    optimizer = model.optimizer

    def collect(gradients: Any, variables: Any = None) -> None:
        variables = model.trainable_variables if variables is None else variables
        for gradient, variable in zip(gradients, variables, strict=True):
            found[id(variable)] = gradient

    optimizer.apply = collect
    try:
        yield found
    finally:
        del optimizer.apply


def numbers_from(parts: Sequence[int], state: Any) -> np.ndarray:
    """Return a seed state that follows from `parts`, of the shape and dtype of `state`."""
    count = int(np.prod(state.shape))
    drawn = np.random.SeedSequence([part & 0xFFFFFFFF for part in parts]).generate_state(count)
    return (drawn & 0x7FFFFFFF).astype(str(state.dtype)).reshape(tuple(state.shape))


def _rows(gradient: Any) -> Slices:
    return Slices(gradient.indices.numpy().astype(np.int64), gradient.values.numpy())


def _length(variables: Sequence[Any]) -> int:
    return sum(int(np.prod(v.shape)) for v in variables)


def _flat_sum(given: Sequence[Sequence[Any]], like: Sequence[Any]) -> np.ndarray:
    """Return the sum of lists of tensors that are shaped `like`, in float64, each list flat."""
    total = np.zeros(_length(like))
    for tensors in given:
        at = 0
        for tensor in tensors:
            flat = np.asarray(tensor).ravel()
            total[at : at + flat.size] += flat
            at += flat.size
    return total


def _cut(flat: np.ndarray, variables: Sequence[Any]) -> list[np.ndarray]:
    """Return `flat` in the shapes and dtypes of `variables`."""
    ends = np.cumsum([int(np.prod(v.shape)) for v in variables])
    parts = np.split(flat, ends[:-1]) if len(variables) else []
    return [
        part.reshape(tuple(v.shape)).astype(str(v.dtype))
        for part, v in zip(parts, variables, strict=True)
    ]


def _add(variables: Sequence[Any], flat: np.ndarray) -> None:
    """Add to variables, in float64, what is not 0."""
    at = 0
    for variable in variables:
        size = int(np.prod(variable.shape))
        more = flat[at : at + size].reshape(tuple(variable.shape))
        at += size
        if more.any():
            now = np.asarray(variable)
            variable.assign((now.astype(np.float64) + more).astype(now.dtype))


def check_model(model: keras.Model) -> None:
    """Refuse models whose training another rank could not go on with.

    Raises:
        EaiError: Several optimizers, sharded tables, accumulation, or metrics that do not add up.
    """
    from eai_notebook.train.global_metrics import is_additive, leaves
    from eai_notebook.train.held_optimizers import optimizers
    from eai_notebook.train.sharded.sharded_variables import parts

    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    refused = {
        "several optimizers": len(optimizers(model)) > 1,
        "a table that is sharded over the ranks": bool(parts(model.weights)),
        "gradient_accumulation_steps": bool(optimizer.gradient_accumulation_steps),
        "steps_per_execution": model.steps_per_execution != 1,
        "a metric whose state does not add up": not all(map(is_additive, leaves(model.metrics))),
        "batch normalization over all ranks": any(
            type(layer).__name__ == "SyncBatchNormalization"
            for layer in model._flatten_layers()  # noqa: SLF001 -- as Keras's fit does
        ),
    }
    for what, is_there in refused.items():
        if is_there:
            raise EaiError(
                f"elastic training does not know how to go on with {what}",
                "leave it out, or train without elastic=True",
                code="not-elastic",
            )
