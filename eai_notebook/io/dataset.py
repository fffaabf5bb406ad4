"""A rank's batches, as everything that trains accepts them.

`ClickData` is a `tf.data.Dataset`, so `model.fit`, `evaluate`, `predict`, every dataset
method and a plain Python loop take it. A batch costs one call into Python, whatever its
size; a generator would cost a fifth of a step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from eai_notebook.errors import EaiError
from eai_notebook.io.epoch import ClosedError, Epoch, Plan

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


Batch = tuple[dict[str, Any], Any]
"""``{"numbers": float32 [batch, 13], "ids": int32 [batch, 26]}`` and float32 ``[batch, 1]``."""

_UNDER_WAY = 2  # batches after which an epoch counts: Keras looks at one before it begins

# TensorFlow's own iterator, which has no public name to derive from.
_OwnIterator: Any = type(iter(tf.data.Dataset.range(0)))


class Batches(_OwnIterator):
    """TensorFlow's iterator over one epoch, that raises what the reader raised."""

    def __init__(self, data: ClickData) -> None:
        self._click_data = data
        self._born = data.epochs_begun
        super().__init__(data)

    @property
    def error(self) -> EaiError | None:
        """What ended this loop early, if something did."""
        return self._click_data.error

    def __next__(self) -> Batch:
        try:
            batch: Batch = super().__next__()
        except tf.errors.OpError:
            # TensorFlow buries the one line that matters under its own.
            if self.error is not None and tf.executing_eagerly():
                raise self.error from None
            raise
        return batch

    def __del__(self) -> None:
        # A loop left early must not leave readers behind; but a newer loop's are not ours.
        data = getattr(self, "_click_data", None)
        if data is not None and data.epochs_begun == self._born + 1:
            data.close()


class ClickData(tf.data.Dataset):
    """Batches ``(features, labels)`` of this rank's rows; made by `eai_notebook.io.criteo`.

    One loop at a time: a new one ends the one before it.

    Attributes:
        rows: Rows this rank reads, bad ones that are skipped not counted.
        batch_size: Rows in a batch.
        steps_per_epoch: Batches in an epoch, the same on every rank.
        dropped_rows: Rows of this rank that are left out of each epoch because not every
            rank can fill a batch with them. With shuffling, they are others each time.
        skipped: Bad rows left out, by file; empty unless ``on_error="skip"``.
        epoch: The number of the epoch that begins next; set it to repeat one.
        error: What ended the last epoch early, if something did.
        epochs_begun: Loops begun so far, also those left after one batch.
    """

    def __init__(self, plan: Plan, rows: int, skipped: Mapping[str, int]) -> None:
        self.plan = plan
        self.rows = rows
        self.batch_size = plan.batch_size
        self.steps_per_epoch = plan.steps
        self.dropped_rows = max(rows - plan.steps * plan.batch_size, 0)
        self.skipped = dict(skipped)
        self.epoch = 0
        self.error: EaiError | None = None
        self.epochs_begun = 0
        self._cpu_seconds = 0.0
        self._now: Epoch | None = None
        # Every batch is full, but perhaps the last one where nothing is left out.
        full = plan.steps * plan.batch_size <= rows
        self._spec = _spec(plan, plan.batch_size if full else None)
        self._source = self._in_graph()
        super().__init__(self._source._variant_tensor)  # noqa: SLF001 - no other way in

    def __iter__(self) -> Iterator[Batch]:
        if tf.executing_eagerly():
            return Batches(self)
        iterator: Iterator[Batch] = super().__iter__()
        return iterator

    def __repr__(self) -> str:
        plan = self.plan
        return (
            f"<{plan.schema.name} data of rank {plan.rank}: {self.rows:,} rows, "
            f"{self.steps_per_epoch:,} steps of {self.batch_size:,}>"
        )

    __str__ = __repr__

    @property
    def element_spec(self) -> tuple[dict[str, tf.TensorSpec], tf.TensorSpec]:
        """What a batch is: types and shapes."""
        return self._spec

    @property
    def cpu_seconds(self) -> float:
        """Processor time the readers have used: a cost that waiting times do not show."""
        return self._cpu_seconds + (0.0 if self._now is None else self._now.cpu_seconds)

    def close(self) -> None:
        """End the loop under way and its readers, if there is one."""
        if self._now is not None:
            self._now.close()
            self._cpu_seconds += self._now.cpu_seconds
            self._now = None

    def _inputs(self) -> list[Any]:
        return [self._source]

    def _in_graph(self) -> tf.data.Dataset:
        """Make the dataset whose every iterator begins a loop, numbered, and fetches for it."""
        steps = self.steps_per_epoch
        loops = tf.data.Dataset.range(1).map(
            lambda _: tf.numpy_function(self._begin, [], tf.int64, stateful=True)
        )
        batches = loops.flat_map(
            lambda loop: tf.data.Dataset.range(steps).map(lambda _: self._fetch(loop))
        )
        # The readers are ahead already. A second queue would only hide what waiting costs.
        options = tf.data.Options()
        options.autotune.enabled = False
        options.experimental_optimization.inject_prefetch = False
        counted = batches.apply(tf.data.experimental.assert_cardinality(steps))
        return counted.with_options(options)

    def _fetch(self, loop: Any) -> Batch:
        features, labels = self._spec
        specs = (features["numbers"], features["ids"], labels)
        tensors = tf.numpy_function(
            self._next_rows, [loop], [spec.dtype for spec in specs], stateful=True
        )
        for tensor, spec in zip(tensors, specs, strict=True):
            tensor.set_shape(spec.shape)
        return {"numbers": tensors[0], "ids": tensors[1]}, tensors[2]

    def _begin(self) -> Any:
        """Begin a loop, ending the one before, and return its number."""
        self.close()
        self.error = None
        self.epochs_begun += 1
        self._now = Epoch(self.plan, self.epoch)
        return np.int64(self.epochs_begun)

    def _next_rows(self, loop: np.int64) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the arrays of a loop's next batch."""
        now = self._now
        if now is None or loop != self.epochs_begun:
            raise ClosedError
        if now.taken + 1 == min(_UNDER_WAY, self.steps_per_epoch):
            self.epoch += 1
        try:
            rows = now.next()
        except ClosedError:
            raise  # the loop was left, or another one began: not the data's fault
        except EaiError as error:
            self.error = error
            # TensorFlow prints the way an error took; the reader's threads are no help.
            raise error.with_traceback(None) from None
        return rows.numbers, rows.ids, rows.labels


def _spec(plan: Plan, batch: int | None) -> tuple[dict[str, tf.TensorSpec], tf.TensorSpec]:
    schema = plan.schema
    features = {
        "numbers": tf.TensorSpec((batch, len(schema.integers)), tf.float32),
        "ids": tf.TensorSpec((batch, len(schema.categorical)), tf.int32),
    }
    return features, tf.TensorSpec((batch, 1), tf.float32)
