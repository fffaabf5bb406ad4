"""Collective operations: allreduce, allgather, alltoall, broadcast, barrier.

Everything that blocks goes through Horovod, because only Horovod's collectives can be
freed from outside (`release`) when a peer has failed. Without a ring each function
returns what a ring of one would.
"""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from eai_notebook.collective.membership import horovod, is_formed, next_call, rank, size
from eai_notebook.collective.objects import decode, encode
from eai_notebook.errors import EaiError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import tensorflow as tf

_UNSUPPORTED: Final = {"uint32": "int64", "uint64": "int64", "bfloat16": "float32"}
"""Formats that Horovod over MPI cannot carry, and the ones that hold their values exactly
(seeds in uint64 keep their bits)."""

_MISMATCH: Final = re.compile(r"Mismatched [^\[\n]*[^\[\n. ]")
"""How Horovod says that ranks have given other kinds or shapes under one name."""


_scope = ""


@contextlib.contextmanager
def name_scope(prefix: str) -> Iterator[None]:
    """Put `prefix` in front of the names of the exchanges that are made or traced meanwhile.

    Two optimizers in one step number their gradients alike, and must not meet each other's.
    """
    global _scope
    before, _scope = _scope, f"{prefix}."
    try:
        yield
    finally:
        _scope = before


def allreduce(tensor: tf.Tensor, name: str, *, average: bool = True) -> tf.Tensor:
    """Return the average (or sum) of `tensor` over the ranks.

    Works eagerly and inside a ``tf.function``. Ranks meet by `name`: it must be the same
    on all of them and different for every exchange in flight. The tensor's shape and
    dtype must be the same on all ranks, and are the result's.
    """
    import tensorflow as tf

    tensor = tf.convert_to_tensor(tensor)
    if not is_formed():
        return tensor
    hvd = horovod()
    dtype = tensor.dtype
    carried = tf.as_dtype(_UNSUPPORTED.get(dtype.name, dtype.name))
    operation = hvd.Average if average else hvd.Sum
    total = hvd.allreduce(tf.cast(tensor, carried), op=operation, name=f"eai.{_scope}{name}")
    return tf.cast(total, dtype)


def allgather(tensor: tf.Tensor, name: str) -> tf.Tensor:
    """Return the ranks' tensors joined along the first axis, in rank order.

    Their lengths along that axis may differ; dtype and the other axes may not.
    """
    import tensorflow as tf

    tensor = tf.convert_to_tensor(tensor)
    if not is_formed():
        return tensor
    dtype = tensor.dtype
    carried = tf.as_dtype(_UNSUPPORTED.get(dtype.name, dtype.name))
    return tf.cast(horovod().allgather(tf.cast(tensor, carried), name=f"eai.{_scope}{name}"), dtype)


def alltoall(tensor: tf.Tensor, name: str, splits: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Send rank r its stretch of `tensor`; return what came in, in rank order, and its lengths.

    `splits` is int32 of shape [size]: how long along the first axis each rank's stretch is.
    The other axes and the dtype must be the same on all ranks.
    """
    import tensorflow as tf

    tensor = tf.convert_to_tensor(tensor)
    if not is_formed():
        return tensor, splits
    received, lengths = horovod().alltoall(tensor, splits, name=f"eai.{_scope}{name}")
    return received, lengths


def broadcast_variables(variables: Sequence[Any], root: int = 0) -> None:
    """Give every rank the values that `root` has in `variables`.

    `variables` are Keras or TensorFlow variables, in the same order on all ranks. It is
    done in one graph, so that Horovod can fuse the small ones.
    """
    if not is_formed() or not variables:
        return
    import tensorflow as tf

    hvd = horovod()
    number = next_call()
    plain = [v if isinstance(v, tf.Variable) else v.value for v in variables]

    def exchange() -> None:
        for index, variable in enumerate(plain):
            here = variable.read_value()
            carried = tf.as_dtype(_UNSUPPORTED.get(here.dtype.name, here.dtype.name))
            name = f"eai.broadcast.{number}.{index}"
            there = hvd.broadcast(tf.cast(here, carried), root, name=name)
            variable.assign(tf.cast(there, here.dtype))

    # A training step that is being traced calls this before anything has run.
    with tf.init_scope():
        # Called as a concrete function: TensorFlow warns of functions made again and again.
        tf.function(exchange, autograph=False).get_concrete_function()()


def allreduce_numpy(array: np.ndarray, *, largest: bool = False) -> np.ndarray:
    """Return the sum of `array` over the ranks, or with `largest` the maximum.

    Shape and dtype must be the same on all ranks, and are the result's.

    Raises:
        EaiError: The ranks are in different exchanges; on all of them.
    """
    values: np.ndarray = np.asarray(array)
    if not is_formed():
        return values
    hvd = horovod()
    operation = hvd.Max if largest else hvd.Sum
    import tensorflow as tf

    name = f"eai.numpy.{next_call()}"
    with tf.init_scope(), tf.device("CPU:0"):
        try:
            total = hvd.allreduce(tf.constant(values), op=operation, name=name)
        except tf.errors.FailedPreconditionError as error:
            mismatch = _MISMATCH.search(error.message)
            if mismatch is None:
                raise
            raise EaiError(
                f"the ranks are in different exchanges ({mismatch[0]})",
                "let all ranks run the same code, and run what is for one rank in a cell of its "
                "own: `%%distributed --ranks 0`",
                code="exchanges-differ",
            ) from None
    reduced: np.ndarray = total.numpy().reshape(values.shape)
    return reduced


def broadcast_object(value: Any, root: int = 0) -> Any:
    """Return on every rank what `root` passed as `value`.

    It may be made of numbers, text, bytes, lists, tuples, dicts and NumPy arrays; it is not
    pickled.

    Raises:
        EaiError: it holds something else.
    """
    if not is_formed():
        return value
    content = encode(value) if rank() == root else b""
    length = int(allreduce_numpy(np.array([len(content)]))[0])
    data = np.zeros(length, dtype=np.uint8)
    if rank() == root:
        data[:] = np.frombuffer(content, dtype=np.uint8)
    # Every other rank adds zeros, so the sum is what root sent.
    return decode(allreduce_numpy(data).tobytes())


def gather_numpy(array: np.ndarray) -> np.ndarray:
    """Return the ranks' arrays stacked in rank order: shape [size, ...]."""
    array = np.asarray(array)
    table = np.zeros((size(), *array.shape), dtype=array.dtype)
    table[rank()] = array
    return allreduce_numpy(table)


def barrier() -> None:
    """Wait until every rank of the ring is here."""
    allreduce_numpy(np.zeros(1, dtype=np.int32))
