"""One training step of a virtual rank, without any effect, and the update by the sum of all.

A virtual rank's step begins with the state that all have in common: its seeds are a function of
its number and the step's, and what its layers and metrics count is taken as a difference, then
put back. So a step can be made again, by another rank, and comes to the same.

Both are one compiled function each, which hands over one flat tensor of all dense gradients: what
Python does in a step does not grow with the number of variables.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final

import keras
import numpy as np
import tensorflow as tf

from eai_notebook.elastic.contribution import Contribution, Slices
from eai_notebook.elastic.gradient_sum import ALIGNED_BYTES
from eai_notebook.errors import EaiError
from eai_notebook.train.optimizer import DistributedOptimizer
from eai_notebook.train.seeds import seed_states

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


ALIGNED: Final = 16
"""Gradients begin at multiples of it in the flat tensor: TensorFlow need not copy them out of it."""


class VirtualStep:
    """The steps of a model's virtual ranks.

    Args:
        model: Compiled and built, its optimizer too.
        base: What all seeds of the training follow from: whole numbers.
    """

    def __init__(self, model: keras.Model, base: Sequence[int]) -> None:
        self._model, self.base = model, [int(number) for number in base]
        self._seeds = seed_states(model)
        others = {id(v) for v in [*self._seeds, *model.metrics_variables]}
        self._statistics = [v for v in model.non_trainable_variables if id(v) not in others]
        self._counts = list(model.metrics_variables)
        self._weights = list(model.trainable_variables)
        self._train = self._compiled(self._train_once)
        self._test = self._compiled(self._test_once)
        self._update = self._compiled(self._apply)
        self._tables: list[int] = []
        self._precision = "float32"
        self._sums = _Sums()
        self._positions = [0]
        """Where in the flat tensor each weight's gradient begins, and its end."""

    def prepare(self, batch: Any) -> None:
        """Compile the step for `batch`; find out which gradients are rows of a table."""
        asked = batch, self._seeds_of(0, 0)
        if self._model.run_eagerly:
            self._train(*asked)
        else:
            self._train.get_concrete_function(*asked)

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
        sums = self._sums
        sums.begin(self._positions[-1], _length(self._counted))
        rows: list[list[Slices]] = [[] for _ in self._tables]
        for virtual, batch in batches:
            flat, tables, counted = self._train(batch, self._seeds_of(virtual, number))
            sums.add(flat, counted)
            for known, table in zip(rows, tables, strict=True):
                known.append(_rows(table))
        sums.finish(self._precision)
        joined = [
            Slices.joined([_no_rows(self._weights[index]), *several])
            for index, several in zip(self._tables, rows, strict=True)
        ]
        runs = float(len(batches))
        return Contribution(sums.counted, joined, sums.gradients, self._precision, runs)

    def evaluate(self, batches: Iterator[Any]) -> Contribution:
        """Return what metrics count on batches, beginning from nothing."""
        total = np.zeros(_length(self._counts))
        for batch in batches:
            total += np.asarray(self._test(batch))
        return Contribution(total)

    # ----------------------------------------------------------------- of all ranks

    def finish(self, total: Contribution) -> dict[str, Any]:
        """Update weights, statistics and metrics with the sum of all virtual ranks.

        Returns:
            The metrics, as Keras names them.
        """
        tables = [(tf.constant(rows.indices), tf.constant(rows.values)) for rows in total.tables]
        numbers = tf.constant(np.append(total.numbers, total.runs))
        found: dict[str, Any] = self._update(_tensor_of(total.gradients), tables, numbers)
        return found

    def set_counts(self, total: np.ndarray) -> None:
        """Set metrics to what all ranks together have counted."""
        ends = np.cumsum([_length([v]) for v in self._counts])
        for variable, values in zip(self._counts, np.split(total, ends)[:-1], strict=True):
            variable.assign(values.reshape(tuple(variable.shape)).astype(str(variable.dtype)))

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
        """Return a batch's gradients, flat or as rows of tables, and what was counted in its step."""
        for state, values in zip(self._seeds, seeds, strict=True):
            state.assign(values)
        with _collected(self._model) as gradients, self._counting(self._counted) as before:
            self._model.train_step(batch)
            self._statistics = [v for v in self._statistics if _may_be_written(v)]
            counted = _differences(self._counted, before)
        found = [gradients.get(id(weight)) for weight in self._weights]
        self._tables = [i for i, each in enumerate(found) if isinstance(each, tf.IndexedSlices)]
        kinds = {keras.backend.standardize_dtype(v.dtype) for v in self._dense}
        self._precision = "float64" if "float64" in kinds else "float32"
        ends = np.cumsum([-(-_length([v]) // ALIGNED) * ALIGNED for v in self._dense], dtype=int)
        self._positions = [0, *ends.tolist()]
        flat = [
            tf.zeros(ALIGNED * -(-_length([weight]) // ALIGNED), self._precision)
            if gradient is None
            else _aligned(tf.reshape(tf.cast(gradient, self._precision), [-1]), _length([weight]))
            for index, (weight, gradient) in enumerate(zip(self._weights, found, strict=True))
            if index not in self._tables
        ]
        return _joined(flat, self._precision), [found[index] for index in self._tables], counted

    def _test_once(self, batch: Any) -> Any:
        """Return what metrics have counted on a batch."""
        with self._counting(self._counted) as before:
            self._model.test_step(batch)
            return _differences(self._counts, before)

    @contextlib.contextmanager
    def _counting(self, variables: Sequence[Any]) -> Iterator[dict[int, tf.Tensor]]:
        """Yield the values of statistics and metrics before the block; they are put back after it."""
        before = {id(v): v.value.read_value() for v in variables}
        yield before
        for variable in variables:
            if _may_be_written(variable):
                variable.value.assign(before[id(variable)])

    def _apply(self, flat: tf.Tensor, tables: Sequence[Any], numbers: tf.Tensor) -> dict[str, Any]:
        """Update all with sums over the virtual ranks, as many as the last of `numbers` says."""
        runs = numbers[-1]
        begins = iter(self._positions)
        rows = iter(tables)
        given: list[Any] = []
        for index, weight in enumerate(self._weights):
            if index in self._tables:
                indices, values = next(rows)
                mean = tf.cast(tf.cast(values, tf.float64) / runs, weight.dtype)
                shape = tf.constant(tuple(weight.shape), tf.int64)
                given.append(tf.IndexedSlices(mean, indices, shape))
            else:
                part = tf.slice(flat, [next(begins)], [_length([weight])])  # a view where aligned
                given.append(tf.cast(tf.reshape(part, weight.shape), weight.dtype))
        with _alone(self._model.optimizer) as optimizer:
            optimizer.apply(given, self._weights)
        many = _length(self._statistics)
        _add(self._statistics, numbers[:many] / runs)
        _add(self._counts, numbers[many:-1])
        found: dict[str, Any] = self._model.get_metrics_result()
        return found


class _Sums:
    """Sums over the virtual ranks that one rank runs, in their order; they are made in the same memory again."""

    def __init__(self) -> None:
        self.gradients = self._memory = np.zeros(0)
        self.counted = np.zeros(0)
        self._is_empty = True

    def begin(self, gradients: int, counted: int) -> None:
        """Begin with nothing."""
        self._is_empty = True
        self.counted = np.zeros(counted)
        if len(self._memory) != gradients:
            self._memory = np.zeros(gradients)
        self.gradients = self._memory[:0]

    def add(self, flat: Any, counted: Any) -> None:
        """Add the gradients of a virtual rank, and what it has counted."""
        given = np.asarray(flat)
        if not self._is_empty:
            given = np.add(self.gradients, given, out=self._memory, dtype=np.float64)
        self.gradients, self._is_empty = given, False
        self.counted += np.asarray(counted)

    def finish(self, precision: str) -> None:
        """Have zeros stand for nothing."""
        if self._is_empty:
            self.gradients = np.zeros(len(self._memory), precision)


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


@contextlib.contextmanager
def _alone(optimizer: Any) -> Iterator[Any]:
    """Yield what updates by gradients that are exchanged already: the optimizer without our own.

    Keras's loss scale may be around it, or in it.
    """
    outer = optimizer
    if isinstance(optimizer, DistributedOptimizer):
        outer = optimizer.inner_optimizer
    inner = getattr(outer, "inner_optimizer", None)
    if not isinstance(inner, DistributedOptimizer):
        yield outer
        return
    outer.inner_optimizer = inner.inner_optimizer
    try:
        yield outer
    finally:
        outer.inner_optimizer = inner


def _may_be_written(variable: Any) -> bool:
    """Return whether what is traced now may write to a variable: not what only reads it.

    Weights of frozen layers count among those that a step does not train, as statistics do.
    """
    if tf.executing_eagerly():
        return True
    graph = tf.compat.v1.get_default_graph()
    consumers = graph.capture(variable.value.handle).consumers()
    return any(operation.type not in _READS for operation in consumers)


_READS: Final = frozenset({"ReadVariableOp", "ResourceGather", "ResourceGatherNd", "VariableShape"})


def _differences(variables: Sequence[Any], before: Mapping[int, tf.Tensor]) -> tf.Tensor:
    """Return what was added to variables since `before`, flat and in float64."""
    flat = [
        tf.reshape(
            tf.cast(v.value.read_value(), tf.float64) - tf.cast(before[id(v)], tf.float64), [-1]
        )
        for v in variables
    ]
    return _joined(flat, "float64")


def _tensor_of(array: np.ndarray) -> tf.Tensor:
    """Return a tensor, which shares the array's memory where that is aligned for TensorFlow."""
    if len(array) and array.flags.writeable and array.ctypes.data % ALIGNED_BYTES == 0:
        return tf.experimental.dlpack.from_dlpack(array.__dlpack__())
    return tf.constant(array)


def _aligned(flat: tf.Tensor, length: int) -> tf.Tensor:
    """Return a flat tensor, with zeros up to a multiple of `ALIGNED`."""
    return tf.pad(flat, [[0, -length % ALIGNED]]) if length % ALIGNED else flat


def _joined(flat: Sequence[tf.Tensor], dtype: str) -> tf.Tensor:
    return tf.concat(flat, 0) if flat else tf.zeros(0, dtype)


def numbers_from(parts: Sequence[int], state: Any) -> np.ndarray:
    """Return a seed state that follows from `parts`, of the shape and dtype of `state`."""
    count = int(np.prod(state.shape))
    drawn = np.random.SeedSequence([part & 0xFFFFFFFF for part in parts]).generate_state(count)
    return (drawn & 0x7FFFFFFF).astype(str(state.dtype)).reshape(tuple(state.shape))


def _rows(gradient: Any) -> Slices:
    return Slices(gradient.indices.numpy().astype(np.int64), gradient.values.numpy())


def _no_rows(weight: Any) -> Slices:
    return Slices(np.zeros(0, np.int64), np.zeros((0, *weight.shape[1:]), str(weight.dtype)))


def _length(variables: Sequence[Any]) -> int:
    return sum(int(np.prod(v.shape)) for v in variables)


def _add(variables: Sequence[Any], flat: tf.Tensor) -> None:
    """Add to variables, in float64."""
    lengths = [_length([v]) for v in variables]
    for variable, more in zip(variables, tf.split(flat, lengths) if lengths else [], strict=True):
        now = variable.value.read_value()
        total = tf.cast(now, tf.float64) + tf.reshape(more, now.shape)
        variable.value.assign(tf.cast(total, now.dtype))


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
        "several optimizers": (len(optimizers(model)) > 1, "compile the model with one"),
        "a table that is sharded over the ranks": (
            bool(parts(model.weights)),
            "use keras.layers.Embedding, of which only the rows of a step travel",
        ),
        "gradient_accumulation_steps": (
            bool(optimizer.gradient_accumulation_steps),
            "leave it out, and give as many times more virtual_ranks=",
        ),
        "steps_per_execution": (model.steps_per_execution != 1, "compile without it"),
        "a metric whose state does not add up": (
            not all(map(is_additive, leaves(model.metrics))),
            "compile without it, and call eai.evaluate afterwards",
        ),
        "batch normalization over all ranks": (
            any(
                type(layer).__name__ == "SyncBatchNormalization"
                for layer in model._flatten_layers()  # noqa: SLF001 -- as Keras's fit does
            ),
            "use keras.layers.BatchNormalization, which counts within a virtual rank's batch",
        ),
    }
    for what, (is_there, remedy) in refused.items():
        if is_there:
            raise EaiError(
                f"elastic training does not know how to go on with {what}",
                f"{remedy}; or train without elastic=True",
                code="not-elastic",
            )
