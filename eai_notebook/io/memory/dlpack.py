"""Hand NumPy arrays over to TensorFlow without a copy, by DLPack."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import tensorflow as tf

from eai_notebook.io.memory.alignment import adjacent_runs, is_aligned

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_MIN_RUN: Final = 8
"""Adjacent arrays from which on a joint hand-over is faster."""


def tensor_of(array: NDArray[Any]) -> tf.Tensor:
    """Return a tensor of `array`, which shares its memory if it is aligned, else a copy.

    Nothing may write to the array afterwards.

    Examples:
        >>> from eai_notebook.io.memory.alignment import aligned
        >>> array = aligned((2,), np.dtype("int32"))
        >>> array[:] = 7
        >>> tensor_of(array).numpy().tolist(), tensor_of(np.array(["a"], object)).numpy().tolist()
        ([7, 7], [b'a'])
    """
    if is_aligned(array):
        try:
            writable = array if array.flags.writeable else np.asarray(_Writable(array))[0]
            return tf.experimental.dlpack.from_dlpack(writable.__dlpack__())
        except BufferError:
            pass  # fixed-width text
    return tf.convert_to_tensor(array)


def tensors_of(arrays: Sequence[NDArray[Any]]) -> list[tf.Tensor]:
    """Return tensors of arrays, as `tensor_of` does, but fast for hundreds of them.

    Arrays that are adjacent in memory, as a reader's columns may be, become one tensor, which
    TensorFlow splits into its rows without a copy.
    """
    if len(arrays) < _MIN_RUN:
        return [tensor_of(array) for array in arrays]
    tensors: list[tf.Tensor | None] = [None] * len(arrays)
    for run in adjacent_runs(arrays):
        if len(run) < _MIN_RUN:
            continue
        joined = np.asarray(_Writable(*(arrays[index] for index in run)))
        # (Otherwise a GPU would copy the rows.)
        with tf.device("CPU:0"):
            block = tf.experimental.dlpack.from_dlpack(joined.__dlpack__())
            rows = tf.raw_ops.Unpack(value=block, num=len(run), axis=0)
        for index, row in zip(run, rows, strict=True):
            tensors[index] = row
    return [
        tensor_of(array) if tensor is None else tensor
        for array, tensor in zip(arrays, tensors, strict=True)
    ]


class _Writable:
    """Adjacent arrays as the rows of one array that is marked writable, as DLPack requires.

    TensorFlow does not write to memory that it has not allocated.
    """

    def __init__(self, *arrays: NDArray[Any]) -> None:
        self._arrays = arrays

    @property
    def __array_interface__(self) -> dict[str, Any]:
        first = self._arrays[0]
        interface = first.__array_interface__
        address, _ = interface["data"]
        shape = (len(self._arrays), *first.shape)
        return {**interface, "data": (address, False), "shape": shape, "strides": None}
