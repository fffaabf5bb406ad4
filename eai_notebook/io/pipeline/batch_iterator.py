"""Iterator over one epoch's batches, in Python loops and inside TensorFlow graphs.

A loop in Python takes each batch from the readers itself, as tensors that they have made where the
rows were gathered: through TensorFlow's iterator the same batch comes 2 ms later, 4 % of a step of
50 ms. So does `eai_notebook.train`'s step. A graph, such as that of Keras's own `fit`, can only ask
TensorFlow's iterator.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import tensorflow as tf

from eai_notebook.io.memory.alignment import is_aligned, side_by_side

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from eai_notebook.errors import EaiError
    from eai_notebook.io.pipeline.dataset import Batch, InputData

# TensorFlow's own iterator, which has no public name to derive from.
_OwnIterator: Any = type(iter(tf.data.Dataset.range(0)))

# What a graph needs of it first: asking for one of these means that there is a graph.
_OF_TENSORFLOW: Final = ("_iterator_resource", "_flat_output_types", "_dataset")

_MANY: Final = 8
"""Columns from which on it pays to look how they lie."""


class Batches(_OwnIterator):
    """TensorFlow's iterator over one epoch, made only when a graph asks for it.

    It then goes on with the batch at which a loop in Python has stopped.

    Attributes:
        quick_in_python: True: `eai_notebook.train` may ask for a batch before its step begins.
    """

    quick_in_python = True

    def __init__(self, data: InputData) -> None:
        self._input_data = data
        self._loop = 0
        self._before = data.epochs_begun

    def __getattr__(self, name: str) -> Any:
        if name not in _OF_TENSORFLOW:
            raise AttributeError(name)
        with tf.init_scope():
            super().__init__(self._input_data.rest_of(self._loop))
        return self.__dict__[name]

    @property
    def element_spec(self) -> Any:
        """What a batch is: types and shapes."""
        return self._input_data.element_spec

    @property
    def error(self) -> EaiError | None:
        """What ended this loop early, if something did."""
        return self._input_data.error

    def __next__(self) -> Batch:
        if _OF_TENSORFLOW[0] in self.__dict__ or not tf.executing_eagerly():
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
            # TensorFlow buries the one line that matters under its own.
            if self.error is not None and tf.executing_eagerly():
                raise self.error from None
            raise
        return batch

    def __del__(self) -> None:
        # A loop left early must not leave readers behind; but a newer loop's are not ours.
        data = getattr(self, "_input_data", None)
        if data is not None and data.epochs_begun == self._before + 1:
            data.end_loop()


def tensor_of(array: NDArray[Any]) -> tf.Tensor:
    """Return `array` as a tensor that holds it, without a copy where it lies as TensorFlow wants it.

    Nobody may write to the array any more.

    Examples:
        >>> import numpy as np
        >>> from eai_notebook.io.memory.alignment import aligned
        >>> array = aligned((2,), np.dtype("int32"))
        >>> array[:] = 7
        >>> tensor_of(array).numpy().tolist(), tensor_of(np.array(["a"], object)).numpy().tolist()
        ([7, 7], [b'a'])
    """
    if is_aligned(array):
        try:
            lasting = array if array.flags.writeable else np.asarray(_Lasting(array))[0]
            return tf.experimental.dlpack.from_dlpack(lasting.__dlpack__())
        except BufferError:
            pass  # fixed-width text
    return tf.convert_to_tensor(array)


def tensors_of(arrays: Sequence[NDArray[Any]]) -> list[tf.Tensor]:
    """Return arrays as tensors, as `tensor_of` does, but of hundreds at little more than one's cost.

    Those that lie side by side, as a reader's columns may, go to TensorFlow as one, which gives out
    its rows without a copy.
    """
    if len(arrays) < _MANY:
        return [tensor_of(array) for array in arrays]
    tensors: list[tf.Tensor | None] = [None] * len(arrays)
    for run in side_by_side(arrays):
        if len(run) < _MANY:
            continue
        together = np.asarray(_Lasting(*(arrays[place] for place in run)))
        # (A GPU would take the rows for itself.)
        with tf.device("CPU:0"):
            whole = tf.experimental.dlpack.from_dlpack(together.__dlpack__())
            rows = tf.raw_ops.Unpack(value=whole, num=len(run), axis=0)
        for place, row in zip(run, rows, strict=True):
            tensors[place] = row
    return [
        tensor_of(array) if tensor is None else tensor
        for array, tensor in zip(arrays, tensors, strict=True)
    ]


class _Lasting:
    """Arrays side by side as rows of one that may be written to, for whoever only takes such ones.

    TensorFlow never reuses memory that it did not get by itself.
    """

    def __init__(self, *arrays: NDArray[Any]) -> None:
        self._arrays = arrays

    @property
    def __array_interface__(self) -> dict[str, Any]:
        first = self._arrays[0]
        interface = first.__array_interface__
        place, _ = interface["data"]
        shape = (len(self._arrays), *first.shape)
        return {**interface, "data": (place, False), "shape": shape, "strides": None}
