"""Collective operations: allreduce, allgather, alltoall, broadcast, barrier.

Everything that blocks goes through the ring's backend, whose exchanges `release` ends when a
peer has failed; MPI's own collectives nobody could end. Before a ring is formed each function
returns what a ring of one would; after a release it raises `ExchangeReleased`.
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from eai_notebook.collective import xla_context
from eai_notebook.collective.membership import (
    active_backend,
    exchanges,
    is_formed,
    next_call,
    rank,
    size,
    translated,
)
from eai_notebook.collective.objects import decode, encode
from eai_notebook.errors import EaiError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import tensorflow as tf

    from eai_notebook.collective.backend import Operation

_scope = ""
_turn = threading.RLock()


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


@contextlib.contextmanager
def _in_turn() -> Iterator[None]:
    """Exchange in the body, unless another thread of this rank is in an exchange.

    Ranks meet in the order of their calls, which two threads may make in another order on each
    rank: then one thread's numbers would be added to another's.

    Raises:
        EaiError: Another thread is.
    """
    if not _turn.acquire(blocking=False):
        raise EaiError(
            "another thread of this rank is in an exchange, and ranks meet in the order of their calls",
            "exchange from one thread, or from one after the other in the same order on all ranks",
            code="exchange-in-threads",
        )
    try:
        yield
    finally:
        _turn.release()


def allreduce(tensor: tf.Tensor, name: str, *, average: bool = True) -> tf.Tensor:
    """Return the average (or sum) of `tensor` over the ranks.

    Works eagerly and inside a ``tf.function``. Ranks meet by `name`: it must be the same
    on all of them and different for every exchange in flight. The tensor's shape and
    dtype must be the same on all ranks, and are the result's.
    """
    import tensorflow as tf

    tensor = tf.convert_to_tensor(tensor)
    with _exchanging():
        return active_backend().allreduce(tensor, _full(name), "average" if average else "sum")


def allgather(tensor: tf.Tensor, name: str) -> tf.Tensor:
    """Return the ranks' tensors joined along the first axis, in rank order.

    Their lengths along that axis may differ; dtype and the other axes may not.
    """
    import tensorflow as tf

    tensor = tf.convert_to_tensor(tensor)
    with _exchanging():
        return active_backend().allgather(tensor, _full(name))


def alltoall(tensor: tf.Tensor, name: str, splits: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Send rank r its stretch of `tensor`; return what came in, in rank order, and its lengths.

    `splits` is int32 of shape [size]: the length of each rank's stretch along the first axis.
    The other axes and the dtype must be the same on all ranks.
    """
    import tensorflow as tf

    tensor, splits = tf.convert_to_tensor(tensor), tf.convert_to_tensor(splits)
    with _exchanging():
        return active_backend().alltoall(tensor, splits, _full(name))


@contextlib.contextmanager
def _exchanging() -> Iterator[None]:
    """Exchange in the body, or trace an exchange."""
    if exchanges():
        xla_context.leave()
    import tensorflow as tf

    with _in_turn() if tf.executing_eagerly() else contextlib.nullcontext(), translated():
        yield


def _full(name: str) -> str:
    return f"eai.{_scope}{name}"


def broadcast_variables(variables: Sequence[Any], root: int = 0) -> None:
    """Give every rank the values that `root` has in `variables`.

    `variables` are Keras or TensorFlow variables, in the same order on all ranks. It is
    done in one graph, so that the backend can join small ones into one message.
    """
    ring = active_backend()
    if size() == 1 or not variables:
        return
    import tensorflow as tf

    number = next_call()
    plain = [v if isinstance(v, tf.Variable) else v.value for v in variables]

    def exchange() -> None:
        for index, variable in enumerate(plain):
            name = f"eai.broadcast.{number}.{index}"
            variable.assign(ring.broadcast(variable.read_value(), root, name))

    # A training step that is being traced calls this before anything has run.
    with _in_turn(), translated(), tf.init_scope():
        # Called as a concrete function: TensorFlow warns of functions made again and again.
        tf.function(exchange, autograph=False).get_concrete_function()()


def allreduce_numpy(array: np.ndarray, *, largest: bool = False) -> np.ndarray:
    """Return the sum of `array` over the ranks, or with `largest` the maximum.

    Shape and dtype must be the same on all ranks, and are the result's.

    Raises:
        EaiError: The ranks are in different exchanges; on all of them.
    """
    values: np.ndarray = np.asarray(array)
    ring = active_backend()
    if not is_formed():
        return values
    import tensorflow as tf

    operation: Operation = "max" if largest else "sum"
    with tf.init_scope(), tf.device("CPU:0"):
        try:
            with _in_turn(), translated():
                total = ring.allreduce(tf.constant(values), f"eai.numpy.{next_call()}", operation)
        except EaiError as error:
            if error.code != "exchange-mismatch":
                raise
            raise EaiError(
                f"the ranks are in different exchanges ({error.what})",
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
    active_backend()  # after a release there is none
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
    with _in_turn(), translated():
        active_backend().barrier(f"eai.barrier.{next_call()}")
