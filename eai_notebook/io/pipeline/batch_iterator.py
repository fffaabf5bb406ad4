"""`Batches`: the iterator over one epoch, in Python loops and inside TensorFlow graphs.

A loop in Python gets each batch directly from the readers, as tensors that were made where the rows
were gathered; through TensorFlow's iterator the same batch comes 2 ms later, 4 % of a step of 50 ms.
`eai_notebook.train`'s step does the same. A graph, such as that of Keras's own `fit`, can only call
TensorFlow's iterator.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

import tensorflow as tf

if TYPE_CHECKING:
    from eai_notebook.errors import EaiError

Batch = Any
"""``(features by name, label)``, ``(features, label, weight)`` with ``uneven="pad"``, or the
features alone if there is no label."""

# TensorFlow's own iterator, which has no public name to derive from.
_TensorFlowIterator: Any = type(iter(tf.data.Dataset.range(0)))

# The attributes that a graph reads first: reading one of them means that there is a graph.
_GRAPH_ATTRIBUTES: Final = ("_iterator_resource", "_flat_output_types", "_dataset")


class BatchSource(Protocol):
    """The data set of an iterator."""

    error: EaiError | None
    epochs_begun: int

    @property
    def element_spec(self) -> Any:
        """Types and shapes of a batch."""

    def begin_loop(self, *, in_python: bool) -> int:
        """Begin a loop and return its number."""

    def next_batch(self, loop: int) -> Batch | None:
        """Return the next batch of a loop; None after the last one."""

    def rest_of(self, loop: int) -> tf.data.Dataset:
        """Return the batches of a loop that were not delivered yet."""

    def end_loop(self) -> None:
        """End the current loop."""


class Batches(_TensorFlowIterator):
    """An iterator over one epoch, which becomes TensorFlow's own only if a graph uses it.

    TensorFlow's iterator then continues where the loop in Python has stopped.

    Attributes:
        quick_in_python: True: `eai_notebook.train` may request a batch before its step begins.
    """

    quick_in_python = True

    def __init__(self, data: BatchSource) -> None:
        self._input_data = data
        self._loop = 0
        self._before = data.epochs_begun

    def __getattr__(self, name: str) -> Any:
        if name not in _GRAPH_ATTRIBUTES:
            raise AttributeError(name)
        with tf.init_scope():
            super().__init__(self._input_data.rest_of(self._loop))
        return self.__dict__[name]

    @property
    def element_spec(self) -> Any:
        """Types and shapes of a batch."""
        return self._input_data.element_spec

    @property
    def error(self) -> EaiError | None:
        """The error that ended this loop early, if any."""
        return self._input_data.error

    def __next__(self) -> Batch:
        if _GRAPH_ATTRIBUTES[0] in self.__dict__ or not tf.executing_eagerly():
            return self._next_of_tensorflow()
        self._loop = self._loop or self._input_data.begin_loop(in_python=True)
        batch = self._input_data.next_batch(self._loop)
        if batch is None:
            raise StopIteration
        return batch

    def get_next(self) -> Batch:
        """Return the next batch."""
        return next(self) if tf.executing_eagerly() else super().get_next()

    def _next_of_tensorflow(self) -> Batch:
        try:
            batch: Batch = super().__next__()
        except tf.errors.OpError:
            # TensorFlow's message hides the one line that matters.
            if self.error is not None and tf.executing_eagerly():
                raise self.error from None
            raise
        return batch

    def __del__(self) -> None:
        # End the readers of a loop that was left early, but not those of a newer loop.
        data = getattr(self, "_input_data", None)
        if data is not None and data.epochs_begun == self._before + 1:
            data.end_loop()
