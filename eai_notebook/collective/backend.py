"""`CollectiveBackend`: the interface of the libraries that ranks exchange tensors with.

Another package adds one by an entry point in the group ``eai_notebook.collective_backends`` whose
name is the backend's and whose value is a class without arguments (see `docs/extending.md`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

if TYPE_CHECKING:
    from pathlib import Path

    import tensorflow as tf
    from mpi4py import MPI

    from eai_notebook.errors import EaiError

Operation = Literal["sum", "average", "max"]
"""How `allreduce` combines the ranks' tensors; ``average`` is for floating-point numbers."""

Missing = Mapping[int, tuple[str, ...]]
"""For each rank of the ring the tensors that others have sent and it has not."""


@dataclass(frozen=True)
class Membership:
    """This process's position in a ring: its rank, also among those of its host."""

    rank: int
    size: int
    local_rank: int
    local_size: int


@dataclass(frozen=True)
class Exchange:
    """One stage of a tensor's way: times in seconds since the epoch, on this rank's clock."""

    tensor: str
    stage: str
    start: float
    length: float


class CollectiveBackend(ABC):
    """A library of collective operations on tensors, with named exchanges.

    A process makes one object of each backend that it uses. The module must import neither
    TensorFlow nor the library while it loads: the kernel reads the class attributes.

    **Exchanges.** The five collectives work eagerly and inside a ``tf.function``. Ranks meet by
    `name`, so the order in which a rank begins its exchanges does not matter, in a graph neither:
    an exchange that waits for its peers must not keep a thread of TensorFlow. A name is the
    same on all ranks and different for every exchange in flight; it is used again in each step.
    A graph that was traced in one ring runs in every later one, of any size. Exchanges have no
    gradients.

    **Errors.** An exchange that a release ended raises an error that `translate` turns into
    `ExchangeReleased`, one that its library or a link ended `ExchangeFailed`. Tensors that do
    not fit each other raise one that `translate` turns into an `EaiError` with the code
    ``exchange-mismatch`` whose text names the tensor, on all ranks; the ring still stands.

    Attributes:
        name: What ``EAI_COLLECTIVE`` names; the entry point has the same name.
        title: What people call it.
        settings: Environment variables of ranks where the user has not set them.
        forwarded: Names of its environment variables that ranks on other hosts get as well.
        fusion_variable: The environment variable with the number of bytes up to which it joins
            small tensors into one message; None where it joins none.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    settings: ClassVar[Mapping[str, str]] = {}
    forwarded: ClassVar[tuple[str, ...]] = ()
    fusion_variable: ClassVar[str | None] = None

    def unavailable(self) -> EaiError | None:
        """Return why this process cannot use the backend; None if it can.

        Called before the ring is formed, and again before each later one.
        """
        return None

    def library(self) -> tuple[str, tuple[str, ...]]:
        """Return the library's version, and what it was built to exchange with, such as MPI."""
        return "", ()

    @abstractmethod
    def form(self, comm: MPI.Intracomm | None) -> Membership:
        """Form a ring of the processes of `comm` and return this one's position.

        All of them call it together, any number of times, each after `release`. `comm` may have
        more or fewer processes than before, or others. It is None for a process that was started
        without MPI. The backend must not use `comm` itself for messages: it duplicates it.
        """

    @abstractmethod
    def release(self) -> None:
        """Leave the ring, from any thread; exchanges in flight here and on peers raise at once.

        It waits for no peer.
        """

    @abstractmethod
    def allreduce(self, tensor: tf.Tensor, name: str, operation: Operation) -> tf.Tensor:
        """Return the ranks' tensors combined; shape and dtype are the same on all ranks.

        All ranks get the same bits.
        """

    @abstractmethod
    def allgather(self, tensor: tf.Tensor, name: str) -> tf.Tensor:
        """Return the ranks' tensors joined along the first axis, in rank order.

        Their lengths along that axis may differ and may be 0; dtype and other axes may not.
        """

    @abstractmethod
    def alltoall(
        self, tensor: tf.Tensor, splits: tf.Tensor, name: str
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Send rank r its ``splits[r]`` rows of `tensor`; return what came in, and from whom.

        `splits` is int32 of shape [size], and so is the second result: the number of rows from
        each rank. The first result is in rank order.
        """

    @abstractmethod
    def broadcast(self, tensor: tf.Tensor, root: int, name: str) -> tf.Tensor:
        """Return rank `root`'s tensor; shape and dtype are the same on all ranks."""

    @abstractmethod
    def barrier(self, name: str) -> None:
        """Wait, eagerly, until every rank of the ring is here."""

    def translate(self, error: BaseException) -> EaiError | None:
        """Return the error of this interface that `error` stands for; None for all others.

        An exchange inside a graph raises errors of TensorFlow's.
        """
        del error
        return None

    def start_timeline(self, file: Path) -> bool:
        """Begin to record exchanges into `file`; return whether this rank records any."""
        del file
        return False

    def stop_timeline(self, file: Path) -> list[Exchange]:
        """End the record and return what is in it; empty if the ring was released meanwhile."""
        del file
        return []

    def watch_missing(self, report: Callable[[Missing], None]) -> None:
        """Have `report` called, in any thread, with tensors that wait for a rank for long.

        Called once in a process.
        """
        del report
