"""`Ring`, the interface of a ring of live ranks, and the ring of a process that is alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from mpi4py import MPI

    from eai_notebook.elastic.contribution import Contribution
    from eai_notebook.elastic.member_changes import State


class Ring(Protocol):
    """Live ranks that run virtual ranks by turns and add up what these give."""

    virtual: int
    members: tuple[int, ...]
    number: int
    is_leaving: bool
    facts: dict[str, Any]

    @property
    def rank(self) -> int:
        """This rank's position among the live ones."""

    @property
    def size(self) -> int:
        """How many ranks live."""

    @property
    def communicator(self) -> MPI.Intracomm:
        """Those that live."""

    @property
    def block(self) -> range:
        """The virtual ranks that this rank runs now."""

    @property
    def wire(self) -> type:
        """The dtype in which gradients travel now."""

    def exchange(self, make: Callable[[range], Contribution]) -> Contribution:
        """Return the sum of what `make` gives for all virtual ranks, the same on all live ranks."""

    def end_step(self) -> bool:
        """Let members go that wanted to leave; return whether this rank was one of them."""

    def let_in(self, state: Callable[[], State]) -> bool:
        """Let in a newcomer that is ready, and give it `state`; return whether one has come."""

    def close(self) -> None:
        """Return when all live ranks have come here."""

    def fail(self) -> None:
        """Free the others, because this rank cannot go on."""


class LoneRing:
    """One process that runs all virtual ranks."""

    rank = 0
    size = 1
    members: tuple[int, ...] = (0,)
    number = 0
    wire = np.float32

    def __init__(self, virtual: int) -> None:
        self.virtual = virtual
        self.is_leaving = False
        self.facts: dict[str, Any] = {}
        self.block = range(virtual)

    @property
    def communicator(self) -> MPI.Intracomm:
        """This process."""
        from mpi4py import MPI

        return MPI.COMM_SELF

    def exchange(self, make: Callable[[range], Contribution]) -> Contribution:
        """Return what `make` gives for all virtual ranks."""
        total = make(self.block)
        total.tables = [table.merged() for table in total.tables]
        total.gradients = (total.gradients / total.runs).astype(total.precision)
        return total

    def end_step(self) -> bool:
        """Return whether this process wants to leave."""
        return self.is_leaving

    def let_in(self, state: Callable[[], State]) -> bool:  # noqa: ARG002
        """Let nobody in: one process alone has started none."""
        return False

    def close(self) -> None:
        """Do nothing: nobody waits."""

    def fail(self) -> None:
        """Do nothing: nobody waits."""
