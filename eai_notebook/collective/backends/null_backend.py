"""The backend of one process: every exchange returns what it was given."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eai_notebook.collective.backend import CollectiveBackend, Membership
from eai_notebook.errors import EaiError

if TYPE_CHECKING:
    import tensorflow as tf
    from mpi4py import MPI

    from eai_notebook.collective.backend import Operation


class NullBackend(CollectiveBackend):
    """A ring of one, without a library and without MPI."""

    name = "null"
    title = "one process"

    def form(self, comm: MPI.Intracomm | None) -> Membership:
        """Return the position of the only member."""
        if comm is not None and comm.size > 1:
            raise EaiError(
                f"the null backend cannot join {comm.size} ranks",
                "unset EAI_COLLECTIVE",
                code="collective-backend",
            )
        return Membership(rank=0, size=1, local_rank=0, local_size=1)

    def release(self) -> None:
        """Leave the ring: nobody waits in it."""

    def allreduce(self, tensor: tf.Tensor, name: str, operation: Operation) -> tf.Tensor:
        """Return `tensor`."""
        del name, operation
        return tensor

    def allgather(self, tensor: tf.Tensor, name: str) -> tf.Tensor:
        """Return `tensor`."""
        del name
        return tensor

    def alltoall(
        self, tensor: tf.Tensor, splits: tf.Tensor, name: str
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Return `tensor` and `splits`."""
        del name
        return tensor, splits

    def broadcast(self, tensor: tf.Tensor, root: int, name: str) -> tf.Tensor:
        """Return `tensor`."""
        del root, name
        return tensor

    def barrier(self, name: str) -> None:
        """Wait for nobody."""
