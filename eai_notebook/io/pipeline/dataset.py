"""`InputData`: a rank's batches, as Keras and custom loops accept them.

`InputData` is a `tf.data.Dataset`, so `model.fit`, `evaluate`, `predict`, every dataset
method and a plain Python loop take it. A graph gets a batch by one call into Python, whatever
its size, where a generator would cost a fifth of a step; a loop in Python gets it from `Batches`.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from eai_notebook.errors import EaiError
from eai_notebook.io.part import LABEL
from eai_notebook.io.pipeline.bad_rows import BadRows
from eai_notebook.io.pipeline.batch_iterator import Batches, tensors_of
from eai_notebook.io.pipeline.epoch import WEIGHT, ClosedError, Epoch
from eai_notebook.io.pipeline.reader_autotune import ReaderAutotune
from eai_notebook.io.pipeline.wait_meter import WaitMeter
from eai_notebook.io.pipeline.worker_pool import WorkerPool
from eai_notebook.telemetry import input_waits

if TYPE_CHECKING:
    from collections.abc import Iterator

    from eai_notebook.io.part import Columns
    from eai_notebook.io.pipeline.epoch_plan import Plan


Batch = Any
"""``(features by name, label)``, ``(features, label, weight)`` with ``uneven="pad"``, or the
features alone where there is no label."""

_UNDER_WAY = 2  # batches after which an epoch counts: Keras looks at one before it begins


class InputData(tf.data.Dataset):
    """Batches ``(features, labels)`` of this rank's rows; made by `eai_notebook.io.criteo` and others.

    One loop at a time: a new one ends the one before it.

    Attributes:
        rows: Rows this rank reads, bad ones among them.
        batch_size: Rows in a batch.
        steps_per_epoch: Batches in an epoch, the same on every rank.
        dropped_rows: Rows of this rank that are left out of each epoch because not every
            rank can fill a batch with them. With shuffling, they are others each time.
        epoch: The number of the epoch that begins next; set it to repeat one.
        first_step: The step that the next loop begins with, 0 again once it has begun.
        error: What ended the last epoch early, if something did.
        epochs_begun: Loops begun so far, also those left after one batch.
        meter: What reading has cost and what was waited for.
        sizing: How many parts are read at once, and how many batches are kept ready.
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
        self.meter = WaitMeter()
        self.sizing = ReaderAutotune(plan, self.meter)
        self._bad = BadRows(plan)
        self._workers = WorkerPool()
        self._told = False
        self._now: Epoch | None = None
        self._goes_on = False
        # Every batch is full, but perhaps the last one where no good row is left out.
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
        """What a batch is: types and shapes."""
        return self._spec

    @property
    def cpu_seconds(self) -> float:
        """Processor time the readers have used: a cost that waiting times do not show."""
        return self.meter.cpu_s

    @property
    def skipped(self) -> dict[str, int]:
        """Bad rows left out so far, by file; empty unless ``on_error="skip"``."""
        return self._bad.by_file

    def position(self, epoch: int, step: int) -> dict[str, Any]:
        """Return what `go_to` needs to begin with a step of an epoch, as JSON can hold it.

        The order of files, the place in them and the state of shuffling all follow from it.
        """
        plan = self.plan
        return {"epoch": epoch, "step": step, "rank": plan.rank, "identity": plan.identity}

    def go_to(self, position: dict[str, Any]) -> None:
        """Begin the next loop where `position` says: nothing is repeated or left out.

        Raises:
            EaiError: It is a position in other data.

        Examples:
            ``data.go_to(data.position(epoch=2, step=100))``
        """
        if position != self.position(position.get("epoch", 0), position.get("step", 0)):
            raise EaiError(
                f"the saved position is in other data than {self!r}",
                "open the same files, unchanged, with the same options and number of ranks",
                code="position-invalid",
            )
        if not 0 <= position["step"] < self.steps_per_epoch:
            raise EaiError(
                f"step {position['step']} is not in an epoch of {self.steps_per_epoch} steps",
                "give a step from 0 on",
                code="position-invalid",
            )
        self.epoch, self.first_step = position["epoch"], position["step"]

    def close(self) -> None:
        """End the loop under way, if there is one, its readers, and their processes."""
        self.end_loop()
        self._workers.close()

    def end_loop(self) -> None:
        """End the loop under way, if there is one; reader processes wait for the next."""
        if self._now is not None:
            self._now.close()
            self._now = None

    def begin_loop(self, *, in_python: bool) -> int:
        """Begin a loop, ending the one before, and return its number.

        Its batches are made as tensors for a loop `in_python`, else as a graph wants them.
        """
        self.end_loop()
        self.error = None
        self.epochs_begun += 1
        self._workers.open()
        input_waits.set_input_wait_provider(self._waits)
        first, self.first_step = self.first_step, 0
        self._now = Epoch(
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
            ClosedError: The loop was left, or another one has begun.
            EaiError: A row or a file is bad.
        """
        now = self._now
        if now is None or loop != self.epochs_begun:
            raise ClosedError
        return None if now.taken == self.steps_per_epoch else self._next_of(now)

    def rest_of(self, loop: int) -> tf.data.Dataset:
        """Return a dataset that goes on with a loop; 0 is one that has not begun."""
        self._goes_on = self._now is not None and loop == self.epochs_begun
        return self._resumed if self._goes_on or self.first_step else self

    def _inputs(self) -> list[Any]:
        return [self._source]

    def _in_graph(self) -> tuple[tf.data.Dataset, tf.data.Dataset]:
        """Make the dataset whose every iterator begins a loop, numbered, and fetches for it.

        A second one, for loops that begin within an epoch, promises no number of batches.
        """
        steps = self.steps_per_epoch
        loops = tf.data.Dataset.range(1).map(
            lambda _: tf.numpy_function(self._begin, [], (tf.int64, tf.int64), stateful=True)
        )
        batches = loops.flat_map(
            lambda loop, first: tf.data.Dataset.range(first, steps).map(lambda _: self._fetch(loop))
        )
        # The readers are ahead already. A second queue would only hide what waiting costs.
        options = tf.data.Options()
        options.autotune.enabled = False
        options.experimental_optimization.inject_prefetch = False
        # There is nothing to optimize in one call, and looking for it takes longer than the call.
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
        """Begin a loop, or go on with the one under way; return its number and first step."""
        goes_on, self._goes_on = self._goes_on, False
        now = self._now
        if not goes_on or now is None:
            self.begin_loop(in_python=False)
            now = self._now
            assert now is not None  # noqa: S101 - it has just begun
        return np.int64(self.epochs_begun), np.int64(now.taken)

    def _waits(self) -> input_waits.Sums:
        """Return what this data was waited for, and the sizes it has come to."""
        meter = self.meter
        now = {"depth": meter.depth, "readers": self.sizing.readers.size}
        now |= {"queue": self.sizing.queue.size, "batches": meter.batches}
        return {**meter.waited, "cpu_s": meter.cpu_s, **{k: float(v) for k, v in now.items()}}

    def _next_rows(self, loop: np.int64) -> list[np.ndarray]:
        """Return the arrays of a loop's next batch, for a graph."""
        now = self._now
        if now is None or loop != self.epochs_begun:
            raise ClosedError
        batch = self._next_of(now)
        if isinstance(batch, list):
            return batch
        # The loop has begun in Python.
        return [tensor.numpy() for tensor in tf.nest.flatten(batch)]

    def _next_of(self, now: Epoch) -> Any:
        """Return a loop's next batch, as it was made."""
        if now.taken + 1 == min(now.first + _UNDER_WAY, self.steps_per_epoch):
            self.epoch += 1
        try:
            batch = now.next()
        except ClosedError:
            raise  # the loop was left, or another one began: not the data's fault
        except EaiError as error:
            self.error = error
            # TensorFlow prints the way an error took; the reader's threads are no help.
            raise error.with_traceback(None) from None
        if now.taken == self.steps_per_epoch:
            self._tell(now)
        return batch

    def _as_arrays(self, columns: Columns) -> list[np.ndarray]:
        """Return a batch's columns in the order in which TensorFlow flattens a batch."""
        return [columns[name] for name in self._names]

    def _as_tensors(self, columns: Columns) -> Batch:
        """Return a batch's columns as `element_spec` says."""
        tensors = tensors_of([columns[name] for name in self._names])
        found = dict(zip(self._names, tensors, strict=True))
        if isinstance(self._spec, dict):
            return {name: found[name] for name in self._spec}
        features = {name: found[name] for name in self._spec[0]}
        return (features, *tensors[len(features) :])

    def _tell(self, now: Epoch) -> None:
        """Say once, at the end of an epoch, what was left out of it."""
        if self._told or not self.skipped:
            return
        self._told = True
        for path, count in self.skipped.items():
            sys.stdout.write(f"{path}: {count:,} bad rows left out\n")
        if now.repeats and self.plan.uneven == "drop":
            sys.stdout.write(
                f"rank {self.plan.rank} was left with too few rows and read some a second time\n"
            )


def _spec(plan: Plan, batch: int | None) -> tuple[list[str], Any]:
    """Return the names of the columns as TensorFlow flattens a batch, and what a batch is."""
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
