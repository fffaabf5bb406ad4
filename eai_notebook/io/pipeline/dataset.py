"""`InputData`: a rank's batches, as Keras and custom loops accept them.

`InputData` is a `tf.data.Dataset`, so `model.fit`, `evaluate`, `predict`, every dataset method and a
plain Python loop accept it. A graph gets each batch by one call into Python; a generator would take
a fifth of a step. A loop in Python gets it from `Batches`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from eai_notebook.bookkeeping import say
from eai_notebook.errors import EaiError
from eai_notebook.io.memory.dlpack import tensors_of
from eai_notebook.io.part import LABEL
from eai_notebook.io.pipeline.bad_rows import BadRows
from eai_notebook.io.pipeline.batch_iterator import Batches
from eai_notebook.io.pipeline.epoch import WEIGHT, ClosedError, Epoch
from eai_notebook.io.pipeline.reader_autotune import ReaderAutotune
from eai_notebook.io.pipeline.wait_meter import WaitMeter
from eai_notebook.io.pipeline.worker_pool import WorkerPool
from eai_notebook.telemetry import input_waits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from eai_notebook.io.part import Columns
    from eai_notebook.io.pipeline.batch_iterator import Batch
    from eai_notebook.io.pipeline.epoch_plan import Plan

_COUNTED_FROM = 2  # batches after which an epoch counts: Keras inspects one before it begins


class InputData(tf.data.Dataset):
    """Batches ``(features, labels)`` of this rank's rows; `eai_notebook.io.criteo` and others make it.

    Only one loop at a time: a new loop ends the one before.

    Attributes:
        rows: Rows that this rank reads, including bad ones.
        batch_size: Rows in a batch.
        steps_per_epoch: Batches in an epoch, the same on every rank.
        dropped_rows: Rows of this rank that each epoch skips because they do not fill a batch on
            every rank. With shuffling, they are others each time.
        epoch: The number of the epoch that begins next; set it to repeat one.
        first_step: The first step of the next loop; reset to 0 when that begins.
        error: The error that ended the last epoch early, if any.
        epochs_begun: Loops begun so far, including those that were left after one batch.
        open_again: Opens the same files once more, with the same options, for the rank that
            `collective.reading_rank` names then; None if that is not known.
        meter: Seconds of work and of waiting, by stage.
        sizing: The number of readers and of batches that are prepared ahead.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.rows = plan.source.rows
        self.batch_size = plan.batch_size
        self.steps_per_epoch = plan.steps
        self.dropped_rows = max(self.rows - plan.steps * plan.batch_size, 0)
        self.epoch = 0
        self.first_step = 0
        self.error: EaiError | None = None
        self.epochs_begun = 0
        self.open_again: Callable[[], Any] | None = None
        self.meter = WaitMeter()
        self.sizing = ReaderAutotune(plan, self.meter)
        self._bad = BadRows(plan)
        self._workers = WorkerPool()
        self._reported = False
        self._current: Epoch | None = None
        self._continues = False
        # Every batch is full, except perhaps the last one if every row is read.
        known = plan.on_error == "raise" and plan.steps * plan.batch_size <= self.rows
        full = not plan.whole or known
        self._names, self._spec = _spec(plan, plan.batch_size if full else None)
        self._source, self._resumed = self._in_graph()
        super().__init__(self._source._variant_tensor)  # noqa: SLF001 - no other way in

    def __iter__(self) -> Iterator[Batch]:
        if tf.executing_eagerly():
            return Batches(self)
        iterator: Iterator[Batch] = super().__iter__()
        return iterator

    def __repr__(self) -> str:
        plan = self.plan
        return (
            f"<{plan.source.name} data of rank {plan.rank}: {self.rows:,} rows, "
            f"{self.steps_per_epoch:,} steps of {self.batch_size:,}>"
        )

    __str__ = __repr__

    @property
    def element_spec(self) -> Any:
        """Types and shapes of a batch."""
        return self._spec

    @property
    def cpu_seconds(self) -> float:
        """Processor time of the readers: a cost that waiting times do not show."""
        return self.meter.cpu_s

    @property
    def skipped(self) -> dict[str, int]:
        """The number of bad rows skipped so far, by file; empty unless ``on_error="skip"``."""
        return self._bad.by_file

    def position(self, epoch: int, step: int) -> dict[str, Any]:
        """Return the position of a step in an epoch, for `go_to` and for JSON.

        The order of files, the offset in them and the state of shuffling follow from it.
        """
        plan = self.plan
        return {"epoch": epoch, "step": step, "rank": plan.rank, "identity": plan.identity}

    def go_to(self, position: dict[str, Any]) -> None:
        """Begin the next loop at a position, without repeated or skipped rows.

        Raises:
            EaiError: The position belongs to other data.

        Examples:
            ``data.go_to(data.position(epoch=2, step=100))``
        """
        if position != self.position(position.get("epoch", 0), position.get("step", 0)):
            raise EaiError(
                f"the saved position does not belong to {self!r}",
                "open the same files, unchanged, with the same options and number of ranks",
                code="position-invalid",
            )
        if not 0 <= position["step"] < self.steps_per_epoch:
            raise EaiError(
                f"step {position['step']} is not in an epoch of {self.steps_per_epoch} steps",
                f"use a step from 0 to {self.steps_per_epoch - 1}",
                code="position-invalid",
            )
        self.epoch, self.first_step = position["epoch"], position["step"]

    def close(self) -> None:
        """End the current loop, its readers and their processes."""
        self.end_loop()
        self._workers.close()

    def end_loop(self) -> None:
        """End the current loop; reader processes wait for the next one."""
        if self._current is not None:
            self._current.close()
            self._current = None

    def begin_loop(self, *, in_python: bool) -> int:
        """Begin a loop, end the one before, and return its number.

        Batches are tensors for a loop `in_python`, else arrays for a graph.
        """
        self.end_loop()
        self.error = None
        self.epochs_begun += 1
        self._workers.open()
        input_waits.set_input_wait_provider(self._waits)
        first, self.first_step = self.first_step, 0
        self._current = Epoch(
            self.plan,
            self.epoch,
            first,
            finish=self._as_tensors if in_python else self._as_arrays,
            meter=self.meter,
            bad=self._bad,
            sizing=self.sizing,
            workers=self._workers,
        )
        return self.epochs_begun

    def next_batch(self, loop: int) -> Batch | None:
        """Return the next batch of a loop in Python; None after the last one.

        Raises:
            ClosedError: The loop was closed, or another one has begun.
            EaiError: A row or a file is bad.
        """
        current = self._current
        if current is None or loop != self.epochs_begun:
            raise ClosedError
        return None if current.delivered == self.steps_per_epoch else self._next_of(current)

    def rest_of(self, loop: int) -> tf.data.Dataset:
        """Return a dataset that continues a loop; 0 is one that has not begun."""
        self._continues = self._current is not None and loop == self.epochs_begun
        return self._resumed if self._continues or self.first_step else self

    def _inputs(self) -> list[Any]:
        return [self._source]

    def _in_graph(self) -> tuple[tf.data.Dataset, tf.data.Dataset]:
        """Return the dataset whose iterators each begin a loop, and one for loops within an epoch.

        The second dataset has no known number of batches.
        """
        steps = self.steps_per_epoch
        loops = tf.data.Dataset.range(1).map(
            lambda _: tf.numpy_function(self._begin, [], (tf.int64, tf.int64), stateful=True)
        )
        batches = loops.flat_map(
            lambda loop, first: tf.data.Dataset.range(first, steps).map(lambda _: self._fetch(loop))
        )
        # The readers already read ahead; a second queue would only hide the cost of waiting.
        options = tf.data.Options()
        options.autotune.enabled = False
        options.experimental_optimization.inject_prefetch = False
        # There is nothing to optimize in one call, and the optimizer takes longer than the call.
        options.experimental_optimization.apply_default_optimizations = False
        counted = batches.apply(tf.data.experimental.assert_cardinality(steps))
        return counted.with_options(options), batches.with_options(options)

    def _fetch(self, loop: Any) -> Batch:
        flat = tf.nest.flatten(self._spec)
        tensors = tf.numpy_function(
            self._next_rows, [loop], [spec.dtype for spec in flat], stateful=True
        )
        tensors = [tensors] if len(flat) == 1 and not isinstance(tensors, list) else tensors
        for tensor, spec in zip(tensors, flat, strict=True):
            tensor.set_shape(spec.shape)
        return tf.nest.pack_sequence_as(self._spec, tensors)

    def _begin(self) -> tuple[Any, Any]:
        """Begin a loop, or continue the current one; return its number and first step."""
        continues, self._continues = self._continues, False
        current = self._current
        if not continues or current is None:
            self.begin_loop(in_python=False)
            current = self._current
            assert current is not None  # noqa: S101 - it has just begun
        return np.int64(self.epochs_begun), np.int64(current.delivered)

    def _waits(self) -> input_waits.Sums:
        """Return the waiting times of this data, and the current sizes."""
        meter = self.meter
        now = {"depth": meter.depth, "readers": self.sizing.readers.size}
        now |= {"queue": self.sizing.queue.size, "batches": meter.batches}
        return {**meter.waited, "cpu_s": meter.cpu_s, **{k: float(v) for k, v in now.items()}}

    def _next_rows(self, loop: np.int64) -> list[np.ndarray]:
        """Return the arrays of a loop's next batch, for a graph."""
        current = self._current
        if current is None or loop != self.epochs_begun:
            raise ClosedError
        batch = self._next_of(current)
        if isinstance(batch, list):
            return batch
        # The loop was begun in Python.
        return [tensor.numpy() for tensor in tf.nest.flatten(batch)]

    def _next_of(self, current: Epoch) -> Any:
        """Return a loop's next batch, as `finish` has returned it."""
        if current.delivered + 1 == min(current.first + _COUNTED_FROM, self.steps_per_epoch):
            self.epoch += 1
        try:
            batch = current.next()
        except ClosedError:
            raise  # the loop was closed, or another one began: not an error of the data
        except EaiError as error:
            self.error = error
            # TensorFlow prints the traceback; that of a reader's thread is no help.
            raise error.with_traceback(None) from None
        if current.delivered == self.steps_per_epoch:
            self._report_skipped(current)
        return batch

    def _as_arrays(self, columns: Columns) -> list[np.ndarray]:
        """Return a batch's columns in the order in which TensorFlow flattens a batch."""
        return [columns[name] for name in self._names]

    def _as_tensors(self, columns: Columns) -> Batch:
        """Return a batch's columns in the structure of `element_spec`."""
        tensors = tensors_of([columns[name] for name in self._names])
        by_name = dict(zip(self._names, tensors, strict=True))
        if isinstance(self._spec, dict):
            return {name: by_name[name] for name in self._spec}
        features = {name: by_name[name] for name in self._spec[0]}
        return (features, *tensors[len(features) :])

    def _report_skipped(self, current: Epoch) -> None:
        """Print once, at the end of an epoch, which rows were skipped."""
        if self._reported or not self.skipped:
            return
        self._reported = True
        for path, count in self.skipped.items():
            say(f"{path}: {count:,} bad rows skipped")
        if current.repeats and self.plan.uneven == "drop":
            say(f"rank {self.plan.rank} had too few good rows and read some a second time")


def _spec(plan: Plan, batch: int | None) -> tuple[list[str], Any]:
    """Return the columns' names in the order in which TensorFlow flattens a batch, and its spec."""
    specs = {
        name: tf.TensorSpec((batch, *field.shape), tf.dtypes.as_dtype(np.dtype(field.dtype)))
        for name, field in plan.source.spec.items()
    }
    parts: list[Any] = [{name: spec for name, spec in specs.items() if name != LABEL}]
    names: list[Any] = [{name: name for name in parts[0]}]
    if LABEL in specs:
        parts.append(specs[LABEL])
        names.append(LABEL)
        if plan.uneven == "pad" and not plan.whole:
            parts.append(tf.TensorSpec((batch,), tf.float32))
            names.append(WEIGHT)
    if len(parts) == 1:
        return tf.nest.flatten(names[0]), parts[0]
    return tf.nest.flatten(tuple(names)), tuple(parts)
