"""A rank's batches, as everything that trains accepts them.

`ClickData` is a `tf.data.Dataset`, so `model.fit`, `evaluate`, `predict` and every dataset
method take it. Iterated in Python, which is also what Keras does, it hands batches over
directly: no generator inside TensorFlow, which would add a fifth to a step, and an error
reaches the user as it was raised, not inside TensorFlow's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from eai_notebook.errors import EaiError
from eai_notebook.io.epoch import Epoch, Plan
from eai_notebook.io.parse import Rows

Features = dict[str, Any]
"""``dense``: float32 ``[batch, 13]``; ``categorical``: int32 ``[batch, 26]``."""


class Batches:
    """The batches of one epoch, as tensors."""

    def __init__(self, data: ClickData) -> None:
        self._data = data
        self._epoch = Epoch(data.plan, data.epoch)
        self._taken = 0

    def __iter__(self) -> Batches:
        return self

    def __next__(self) -> tuple[Features, Any]:
        rows = self.next_rows()
        features = {
            "dense": tf.convert_to_tensor(rows.dense),
            "categorical": tf.convert_to_tensor(rows.ids),
        }
        return features, tf.convert_to_tensor(rows.labels)

    def get_next(self) -> tuple[Features, Any]:
        """Return the next batch, under the name TensorFlow's iterators have for it."""
        return next(self)

    def next_rows(self) -> Rows:
        """Return the next batch as arrays."""
        try:
            rows = self._epoch.next()
        except EaiError as error:
            self._data.error = error
            raise
        self._taken += 1
        if self._taken == 2:  # noqa: PLR2004 - Keras looks at one batch before it begins
            self._data.epoch += 1
        return rows

    def close(self) -> None:
        """End the reading; whatever was not taken is lost."""
        self._epoch.close()
        self._data.add_cpu(self._epoch)

    def __del__(self) -> None:
        # A loop left early must not leave readers behind.
        epoch = getattr(self, "_epoch", None)
        if epoch is not None:
            self.close()


class ClickData(tf.data.Dataset):  # type: ignore[misc]
    """Batches ``(features, labels)`` of this rank's rows; made by `eai_notebook.io.criteo`.

    Attributes:
        rows: Rows this rank reads, bad ones that are skipped not counted.
        batch_size: Rows in a batch.
        steps_per_epoch: Batches in an epoch, the same on every rank.
        dropped_rows: Rows of this rank that are left out of each epoch because not every
            rank can fill a batch with them. With shuffling, they are others each time.
        skipped: Bad rows left out, by file; empty unless ``on_error="skip"``.
        epoch: The number of the epoch that begins next; set it to repeat or resume one.
        error: What ended the last epoch early, if something did.
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
        self._cpu: dict[int, float] = {}
        self._in_graph: Batches | None = None
        # Every batch but perhaps the last is full, and most plans have no smaller last one.
        full = plan.steps * plan.batch_size <= rows
        self._spec = _spec(plan, plan.batch_size if full else None)
        self._batches_in_graph = tf.data.Dataset.range(plan.steps).map(self._fetch)
        super().__init__(self._batches_in_graph._variant_tensor)  # noqa: SLF001

    def __iter__(self) -> Iterator[tuple[Features, Any]]:
        if tf.executing_eagerly():
            return Batches(self)
        iterator: Iterator[tuple[Features, Any]] = super().__iter__()
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
        """Processor time the readers have used in finished epochs: wait hides this cost."""
        return sum(self._cpu.values())

    def add_cpu(self, epoch: Epoch) -> None:
        """Book the reading cost of an epoch that is over."""
        self._cpu[id(epoch)] = epoch.cpu_seconds

    def _inputs(self) -> list[Any]:
        return [self._batches_in_graph]

    def _fetch(self, step: Any) -> tuple[Features, Any]:
        """Get a batch from within a TensorFlow graph (after `map`, `prefetch`, `repeat`)."""
        (features, labels) = self._spec
        specs = (features["dense"], features["categorical"], labels)
        tensors = tf.numpy_function(
            self._rows_of_step, [step], [spec.dtype for spec in specs], stateful=True
        )
        for tensor, spec in zip(tensors, specs, strict=True):
            tensor.set_shape(spec.shape)
        return {"dense": tensors[0], "categorical": tensors[1]}, tensors[2]

    def _rows_of_step(self, step: np.int64) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if step == 0 or self._in_graph is None:
            self._in_graph = Batches(self)
        rows = self._in_graph.next_rows()
        return rows.dense, rows.ids, rows.labels


def _spec(plan: Plan, batch: int | None) -> tuple[dict[str, tf.TensorSpec], tf.TensorSpec]:
    schema = plan.schema
    features = {
        "dense": tf.TensorSpec((batch, len(schema.dense)), tf.float32),
        "categorical": tf.TensorSpec((batch, len(schema.categorical)), tf.int32),
    }
    return features, tf.TensorSpec((batch, 1), tf.float32)
