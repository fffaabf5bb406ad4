"""One loop over a rank's batches, by the shortest way that the one who asks for them can go.

A loop in Python takes each batch from the readers itself, as tensors that they have made where the
rows were gathered: through TensorFlow's iterator the same batch comes 2 ms later, 4 % of a step of
50 ms. So does `eai_notebook.train`'s step. A graph, such as that of Keras's own `fit`, can only ask
TensorFlow's iterator.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import tensorflow as tf

from eai_notebook.io.flow.columns import is_aligned

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from eai_notebook.errors import EaiError
    from eai_notebook.io.flow.dataset import Batch, InputData

# TensorFlow's own iterator, which has no public name to derive from.
_OwnIterator: Any = type(iter(tf.data.Dataset.range(0)))

# What a graph needs of it first: asking for one of these means that there is a graph.
_OF_TENSORFLOW: Final = ("_iterator_resource", "_flat_output_types", "_dataset")


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

    Example:
        >>> import numpy as np
        >>> from eai_notebook.io.flow.columns import aligned
        >>> array = aligned((2,), np.dtype("int32"))
        >>> array[:] = 7
        >>> tensor_of(array).numpy().tolist(), tensor_of(np.array(["a"], object)).numpy().tolist()
        ([7, 7], [b'a'])
    """
    if is_aligned(array):
        try:
            lasting = array if array.flags.writeable else np.asarray(_Lasting(array))
            return tf.experimental.dlpack.from_dlpack(lasting.__dlpack__())
        except BufferError:
            pass  # fixed-width text
    return tf.convert_to_tensor(array)


class _Lasting:
    """An array that may not be written to, for whoever only takes those that may, and writes not.

    TensorFlow never reuses memory that it did not get by itself.
    """

    def __init__(self, array: NDArray[Any]) -> None:
        self._array = array

    @property
    def __array_interface__(self) -> dict[str, Any]:
        place, _ = self._array.__array_interface__["data"]
        return {**self._array.__array_interface__, "data": (place, False)}
