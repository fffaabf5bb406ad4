"""The mpi4py backend: the reference, in Python, for machines that cannot build Horovod.

It joins no tensors into larger messages, copies each through the interpreter, and sends every
rank's whole tensor to every other rank.
"""

from __future__ import annotations

import atexit
import itertools
import re
import threading
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from eai_notebook.collective.backend import CollectiveBackend, Membership
from eai_notebook.collective.backends.message_exchange import MessageExchange, Part, Request
from eai_notebook.collective.keras_check import check_keras
from eai_notebook.errors import EaiError, ExchangeReleased

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import tensorflow as tf
    from mpi4py import MPI

    from eai_notebook.collective.backend import Missing, Operation

_AT_EXIT_S: Final = 10.0
"""How long a rank that ends waits for peers to receive the last exchange."""
_LOOK_S: Final = 0.1
"""How often an eager exchange lets Python handle signals."""
_KEPT: Final = 1000
"""Errors that are kept until TensorFlow has carried their numbers to the caller."""
_MARK: Final = re.compile(r"eai-exchange-error-([0-9]+)")


class _NumberedError(Exception):
    """Carries the number of an error through TensorFlow, which passes on texts only."""


class Mpi4pyBackend(CollectiveBackend):
    """Messages by mpi4py on a thread of its own; inside a graph by `tf.numpy_function`.

    There an exchange is two calls, which begin it and fetch its result, and between them a queue
    that a thread of TensorFlow need not wait at.
    """

    name = "mpi4py"
    title = "mpi4py"

    def __init__(self) -> None:
        self._ring: MessageExchange | None = None
        self._report: Callable[[Missing], None] = lambda _: None
        self._requests: dict[int, Request] = {}
        self._errors: dict[int, EaiError] = {}
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        atexit.register(self._at_exit)

    def unavailable(self) -> EaiError | None:
        """Return why TensorFlow cannot be used."""
        try:
            check_keras()
            import tensorflow as tf  # noqa: F401
        except EaiError as error:
            return error
        except ImportError as error:
            return EaiError(
                f"TensorFlow cannot be imported ({error})",
                "install it with `pip install tensorflow-cpu`, or `tensorflow` for GPUs",
                code="tensorflow-missing",
            )
        return None

    def library(self) -> tuple[str, tuple[str, ...]]:
        """Return mpi4py's version."""
        import mpi4py

        return str(mpi4py.__version__), ("MPI",)

    def form(self, comm: MPI.Intracomm | None) -> Membership:
        """Duplicate `comm` and start the thread that serves it."""
        if (error := self.unavailable()) is not None:
            raise error
        if comm is None:
            from mpi4py import MPI

            comm = MPI.COMM_WORLD
        own = comm.Dup()
        host = own.Split_type(_shared())
        membership = Membership(own.rank, own.size, host.rank, host.size)
        host.Free()
        self._ring = MessageExchange(own, self._pass_on)
        return membership

    def release(self) -> None:
        """End the thread, which notifies the peers."""
        ring, self._ring = self._ring, None
        if ring is not None:
            ring.leave()

    def _at_exit(self) -> None:
        ring, self._ring = self._ring, None
        if ring is not None:
            ring.leave(_AT_EXIT_S)

    # -- collectives ----------------------------------------------------------------------

    def allreduce(self, tensor: tf.Tensor, name: str, operation: Operation) -> tf.Tensor:
        """Combine all ranks' tensors on every rank, in rank order: all get the same bits."""
        (total,) = self._exchange(
            name,
            [tensor],
            lambda tensor: _same_to_all(f"allreduce {operation}", tensor, tensor.shape),
            lambda parts: [_combined([part.array for part in parts], operation)],
            [(tensor.dtype, tensor.shape)],
        )
        return total

    def allgather(self, tensor: tf.Tensor, name: str) -> tf.Tensor:
        """Join what came from all ranks."""
        (joined,) = self._exchange(
            name,
            [tensor],
            lambda tensor: _same_to_all("allgather", tensor, (None, *tensor.shape[1:])),
            lambda parts: [np.concatenate([part.array for part in parts])],
            [(tensor.dtype, _ragged(tensor))],
        )
        return joined

    def alltoall(
        self, tensor: tf.Tensor, splits: tf.Tensor, name: str
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Send each rank its rows."""
        import tensorflow as tf

        received, lengths = self._exchange(
            name,
            [tensor, splits],
            _split,
            lambda parts: [
                np.concatenate([part.array for part in parts]),
                np.array([len(part.array) for part in parts], np.int32),
            ],
            [(tensor.dtype, _ragged(tensor)), (tf.int32, splits.shape)],
        )
        return received, lengths

    def broadcast(self, tensor: tf.Tensor, root: int, name: str) -> tf.Tensor:
        """Send the root's tensor to every rank, and only headers from the others."""

        def parts_of(tensor: np.ndarray) -> list[Part]:
            is_root = self._ring is not None and self._ring.rank == root
            sent = tensor if is_root else tensor.reshape(-1)[:0]
            return _same_to_all(f"broadcast from {root}", sent, tensor.shape)

        (value,) = self._exchange(
            name,
            [tensor],
            parts_of,
            lambda parts: [parts[root].array],
            [(tensor.dtype, tensor.shape)],
        )
        return value

    def barrier(self, name: str) -> None:
        """Wait for a message from every rank."""
        part = Part("barrier", (), np.zeros(0, np.uint8))
        self._wait(self._submit(name, [part], lambda _: []))

    def translate(self, error: BaseException) -> EaiError | None:
        """Return the error whose number TensorFlow has carried."""
        found = _MARK.search(str(error))
        return self._errors.get(int(found[1])) if found else None

    def _pass_on(self, missing: Missing) -> None:
        self._report(missing)

    def watch_missing(self, report: Callable[[Missing], None]) -> None:
        """Report what this rank waits for."""
        self._report = report

    # -- running one ----------------------------------------------------------------------

    def _exchange(
        self,
        name: str,
        tensors: Sequence[tf.Tensor],
        parts_of: Callable[..., list[Part]],
        combine: Callable[[list[Part]], list[np.ndarray]],
        results: Sequence[tuple[Any, Any]],
    ) -> list[tf.Tensor]:
        """Exchange `tensors` eagerly or in the graph that is being traced.

        `parts_of` makes the parts to send of arrays, `combine` the results of all ranks' parts;
        `results` are the dtypes and static shapes of these.
        """
        import tensorflow as tf

        if tf.executing_eagerly():
            request = self._submit(name, parts_of(*(_array(each) for each in tensors)), combine)
            return [tf.convert_to_tensor(result) for result in self._wait(request)]
        with tf.device("CPU:0"):
            return self._in_graph(name, tensors, parts_of, combine, results)

    def _in_graph(
        self,
        name: str,
        tensors: Sequence[tf.Tensor],
        parts_of: Callable[..., list[Part]],
        combine: Callable[[list[Part]], list[np.ndarray]],
        results: Sequence[tuple[Any, Any]],
    ) -> list[tf.Tensor]:
        import tensorflow as tf

        with tf.init_scope():
            finished = tf.queue.FIFOQueue(64, [tf.int64], [()])

        def begin(*arrays: np.ndarray) -> np.int64:
            ticket: np.int64 = np.int64(next(self._numbers))

            def on_done() -> None:
                finished.enqueue(ticket)

            # TensorFlow may use the memory of its tensors again when this call is over.
            parts = parts_of(*(np.array(each, order="C") for each in arrays))
            self._requests[int(ticket)] = self._submit(name, parts, combine, on_done)
            return ticket

        def fetch(ticket: np.int64) -> list[np.ndarray]:
            return self._wait(self._requests.pop(int(ticket)))

        begun = tf.numpy_function(begin, list(tensors), tf.int64)
        with tf.control_dependencies([begun]):
            ticket = finished.dequeue()
        fetched = tf.numpy_function(fetch, [ticket], [dtype for dtype, _ in results])
        for tensor in (begun, ticket, fetched[0]):
            _run_independently(tensor)
        return [
            tf.ensure_shape(value, shape)
            for value, (_, shape) in zip(fetched, results, strict=True)
        ]

    def _submit(
        self,
        name: str,
        parts: list[Part],
        combine: Callable[[list[Part]], list[np.ndarray]],
        on_done: Callable[[], None] = lambda: None,
    ) -> Request:
        request = Request(name, parts, combine, on_done)
        ring = self._ring
        if ring is None:
            request.finish(error=ExchangeReleased())
        else:
            ring.submit(request)
        return request

    def _wait(self, request: Request) -> list[np.ndarray]:
        """Return an exchange's results.

        Raises:
            _NumberedError: It ended with an error.
        """
        while not request.done.wait(_LOOK_S):
            pass
        if request.error is None:
            found: list[np.ndarray] = request.result
            return found
        with self._lock:
            number = next(self._numbers)
            self._errors[number] = request.error
            while len(self._errors) > _KEPT:
                del self._errors[next(iter(self._errors))]
        raise _NumberedError(f"{request.error} (eai-exchange-error-{number})")


def _array(tensor: tf.Tensor) -> np.ndarray:
    return np.array(tensor, order="C")


def _same_to_all(kind: str, array: np.ndarray, shape: tuple[int | None, ...]) -> list[Part]:
    return [Part(kind, shape, array)]


def _split(tensor: np.ndarray, splits: np.ndarray) -> list[Part]:
    rows = np.split(tensor, np.cumsum(splits)[:-1])
    return [Part("alltoall", (None, *tensor.shape[1:]), each) for each in rows]


def _combined(arrays: list[np.ndarray], operation: Operation) -> np.ndarray:
    """Return the arrays added up, averaged or their largest numbers, in their dtype."""
    total = arrays[0].copy()
    for array in arrays[1:]:
        total = np.maximum(total, array) if operation == "max" else total + array
    if operation == "average":
        total = total / np.array(len(arrays), total.dtype)
    return np.asarray(total, arrays[0].dtype)


def _ragged(tensor: tf.Tensor) -> Any:
    """Return a tensor's static shape without the length of its first axis."""
    return [None, *tensor.shape[1:]] if tensor.shape.rank is not None else tensor.shape


def _run_independently(tensor: tf.Tensor) -> None:
    """Keep TensorFlow from running exchanges one after the other, in the order of their tracing."""
    manager = tensor.graph.experimental_acd_manager
    if manager is not None:
        manager.run_independently(tensor.op)


def _shared() -> int:
    from mpi4py import MPI

    kind: int = MPI.COMM_TYPE_SHARED
    return kind
