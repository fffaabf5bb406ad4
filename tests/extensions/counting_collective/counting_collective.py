"""Collective backend counting: mpi4py's, which counts the exchanges that a rank traces or makes.

An example of a collective backend in a package of its own.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, ClassVar

from eai_notebook.collective.backend import CollectiveBackend, Membership
from eai_notebook.collective.backends.mpi4py_backend import Mpi4pyBackend

if TYPE_CHECKING:
    import tensorflow as tf
    from mpi4py import MPI

    from eai_notebook.collective.backend import Operation
    from eai_notebook.errors import EaiError


class CountingBackend(CollectiveBackend):
    """Passes every call on to the mpi4py backend, and counts it in `calls`."""

    name = "counting"
    title = "the counting example"
    calls: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        self._inner = Mpi4pyBackend()

    def unavailable(self) -> EaiError | None:
        """Return why mpi4py cannot be used."""
        return self._inner.unavailable()

    def form(self, comm: MPI.Intracomm | None) -> Membership:
        """Form a ring."""
        self.calls["form"] += 1
        return self._inner.form(comm)

    def release(self) -> None:
        """Leave the ring."""
        self.calls["release"] += 1
        self._inner.release()

    def allreduce(self, tensor: tf.Tensor, name: str, operation: Operation) -> tf.Tensor:
        """Combine the ranks' tensors."""
        self.calls["allreduce"] += 1
        return self._inner.allreduce(tensor, name, operation)

    def allgather(self, tensor: tf.Tensor, name: str) -> tf.Tensor:
        """Join the ranks' tensors."""
        self.calls["allgather"] += 1
        return self._inner.allgather(tensor, name)

    def alltoall(
        self, tensor: tf.Tensor, splits: tf.Tensor, name: str
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Exchange rows."""
        self.calls["alltoall"] += 1
        return self._inner.alltoall(tensor, splits, name)

    def broadcast(self, tensor: tf.Tensor, root: int, name: str) -> tf.Tensor:
        """Copy the root's tensor."""
        self.calls["broadcast"] += 1
        return self._inner.broadcast(tensor, root, name)

    def barrier(self, name: str) -> None:
        """Wait for all."""
        self.calls["barrier"] += 1
        self._inner.barrier(name)

    def translate(self, error: BaseException) -> EaiError | None:
        """Return the error that `error` stands for."""
        return self._inner.translate(error)
