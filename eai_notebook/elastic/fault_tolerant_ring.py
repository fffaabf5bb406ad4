"""A ring of ranks that outlives the death of any of them, by MPI's fault tolerance (ULFM).

Exchanges are numbered. When a rank dies, some of the others may have the sum of exchange n
already while the rest have an error: so the first of them keep it until exchange n + 1 is
through, and give it to the rest when the ring has been formed anew. Nobody goes back, nothing
is undone, and all ranks have made the same exchanges.

MPI's calls that wait run in a thread of their own: the main thread can be interrupted.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np

from eai_notebook.collective import objects
from eai_notebook.elastic.contribution import Contribution, Slices
from eai_notebook.elastic.lone_ring import TooFewRanksError
from eai_notebook.elastic.virtual_ranks import block_of
from eai_notebook.elastic.waiting_calls import Caller
from eai_notebook.errors import EaiError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mpi4py import MPI

PATIENCE_S: Final = 60.0
"""How long the others wait for a rank that lives, but does not come to form the ring anew."""

_GOES_ON, _FAILED = 0, 1


@dataclass(frozen=True)
class Change:
    """A change of the membership.

    Attributes:
        lost: Members that are gone, by their numbers in the group.
        members: Those that are left, in order.
        seconds: How long it took to go on without them, from the error on.
    """

    lost: tuple[int, ...]
    members: tuple[int, ...]
    seconds: float


class PeerFailedError(EaiError):
    """Another rank, which lives, has ended its training with an error or was interrupted."""

    def __init__(self, number: int) -> None:
        super().__init__(
            f"rank {number} has ended its training", "see its error", code="peer-failed"
        )


class FaultTolerantRing:
    """Live ranks that run `virtual` virtual ranks by turns and add up what these give.

    Every member must make the same calls in the same order.

    Args:
        comm: The members; it is duplicated, which all of them must take part in.
        numbers: The members' numbers in the group, in the order of `comm`.
        virtual: How many virtual ranks there are; it never changes.
        least: With fewer live ranks than this nobody goes on.

    Attributes:
        members: The live members' numbers, in order.
        number: This rank's number in the group.
        changes: What has become of the membership, in order.
        on_change: Called after each change, once the ring stands again.
    """

    def __init__(
        self, comm: MPI.Intracomm, numbers: Sequence[int], virtual: int, least: int = 1
    ) -> None:
        self.members = tuple(numbers)
        self.virtual = virtual
        self.least = least
        self.changes: list[Change] = []
        self.on_change: Callable[[Change], None] = lambda _: None
        self.is_leaving = False
        """Whether this rank wants to leave at the end of the step."""
        self.leavers: tuple[int, ...] = ()
        """Members that leave at the end of the step, as all have heard in the last exchange."""
        self._sequence = 0
        self._last: Contribution | None = None
        self.number = self.members[comm.rank]
        self._caller = Caller()
        self._comm = self._caller.run(comm.Dup)
        _return_errors(self._comm)

    @property
    def rank(self) -> int:
        """This rank's position among the live ones."""
        return int(self._comm.rank)

    @property
    def size(self) -> int:
        """How many ranks live."""
        return len(self.members)

    @property
    def communicator(self) -> MPI.Intracomm:
        """The live ranks' communicator."""
        return self._comm

    @property
    def block(self) -> range:
        """The virtual ranks that this rank runs now."""
        return block_of(self.rank, self.size, self.virtual)

    def exchange(self, make: Callable[[range], Contribution]) -> Contribution:
        """Return the sum of what `make` gives for all virtual ranks, the same on all live ranks.

        If a rank dies, `make` is called once more, for the virtual ranks that this rank runs
        then. So it must not change anything that it depends on itself.

        Raises:
            EaiError: Too few ranks are left, or one that lives has failed.
        """
        from mpi4py import MPI

        while True:
            members = self.members
            try:
                total = self._summed(make(self.block))
            except MPI.Exception as error:
                if error.Get_error_class() not in _failures():
                    raise
                kept = self._form_anew(_GOES_ON)
                if kept is None:
                    continue
                total = kept
            self._sequence += 1
            self._last = total
            leaving, numbers = np.split(total.numbers, [len(members)])
            self.leavers = tuple(m for m, wish in zip(members, leaving, strict=True) if wish)
            return Contribution(numbers, total.tables)

    def end_step(self) -> bool:
        """Let members go that wanted to leave; return whether this rank was one of them.

        One that leaves must end its process at once: the others wait for its end.
        """
        leavers = [member for member in self.leavers if member in self.members]
        self.leavers = ()
        if not leavers:
            return False
        if self.number in leavers:
            return True
        self._form_anew(_GOES_ON)  # (It waits for the end of those that leave.)
        return False

    def close(self) -> None:
        """Return when all live ranks have come here; none needs this one any more then."""
        while not self._agreed(self._comm, well=True):
            self._form_anew(_GOES_ON)

    def fail(self) -> None:
        """Free the others, which wait for this rank, because it cannot go on; they get an error."""
        if self.size > 1:
            self._form_anew(_FAILED)

    # ------------------------------------------------------------------- exchanges

    def _summed(self, mine: Contribution) -> Contribution:
        """Return the sum over the live ranks; before it, a number for each that wants to leave."""
        from mpi4py import MPI

        leaving = np.zeros(self.size)
        leaving[self.rank] = self.is_leaving
        numbers = np.concatenate([leaving, mine.numbers])
        total = np.empty_like(numbers)
        comm = self._comm
        self._caller.run(lambda: comm.Allreduce(numbers, total))
        found = Contribution(total, [self._gathered(table) for table in mine.tables])
        # Open MPI 5.0 returns from some collectives that a failure has cut short as if all was
        # well, with what was in the buffer before.
        if comm.Is_revoked() or comm.Get_failed().size:
            raise MPI.Exception(MPI.ERR_REVOKED)
        return found

    def _gathered(self, mine: Slices) -> Slices:
        """Return the rows of all ranks, in the order of the virtual ranks, merged."""
        comm = self._comm
        counts, count = np.zeros(comm.size, np.int64), np.array([len(mine.indices)], np.int64)
        self._caller.run(lambda: comm.Allgather(count, counts))
        rows, shape = int(counts.sum()), mine.values.shape[1:]
        width = int(np.prod(shape))
        indices, values = np.empty(rows, np.int64), np.empty((rows, *shape), mine.values.dtype)
        sent = np.ascontiguousarray(mine.indices, np.int64), np.ascontiguousarray(mine.values)
        self._caller.run(lambda: comm.Allgatherv(sent[0], (indices, counts)))
        self._caller.run(lambda: comm.Allgatherv(sent[1], (values, counts * width)))
        return Slices(indices, values).merged()

    # ------------------------------------------------------------- forming it anew

    def _form_anew(self, state: int) -> Contribution | None:
        """Form the ring of those that live.

        Returns:
            The sum of the exchange that this rank has missed and another has; None if none has.

        Raises:
            EaiError: Too few are left, or one of them has failed.
        """
        began, before = time.monotonic(), self.members
        while True:
            comm = self._shrunk()
            found = self._exchanged_states(comm, state)
            well = self._agreed(comm, well=found is not None)
            self._comm = comm
            if well and found is not None:
                break
        table, missed = found
        self.members = tuple(int(number) for number in table[:, 0])
        if state == _FAILED:
            return None
        failed = [number for number, _, its in table.tolist() if its == _FAILED]
        if failed:
            raise PeerFailedError(failed[0])
        lost = tuple(number for number in before if number not in self.members)
        if lost:
            change = Change(lost, self.members, time.monotonic() - began)
            self.changes.append(change)
            self.on_change(change)
        if self.size < self.least:
            raise TooFewRanksError(self.size, self.least)
        return missed

    def _shrunk(self) -> MPI.Intracomm:
        """Return a communicator of those that live; all of them must come."""
        if not self._comm.Is_revoked():
            self._comm.Revoke()
        # (Open MPI 5.0 cannot shrink without waiting: `Ishrink` ends with an internal error.)
        comm = self._caller.try_for(PATIENCE_S, self._comm.Shrink)
        if comm is None:
            raise EaiError(
                f"not all of ranks {list(self.members)} came to form the ring anew "
                f"for {PATIENCE_S:.0f} s",
                "end the group with `%eai restart`",
                code="ring-stuck",
            )
        return _return_errors(comm)

    def _exchanged_states(
        self, comm: MPI.Intracomm, state: int
    ) -> tuple[np.ndarray, Contribution | None] | None:
        """Return every live rank's number, exchange and state, and the sum that was missed.

        None if one more has died meanwhile.
        """
        from mpi4py import MPI

        mine = np.array([self.number, self._sequence, state], np.int64)
        table = np.empty((comm.size, len(mine)), np.int64)
        try:
            self._caller.run(lambda: comm.Allgather(mine, table))
            behind = table[:, 1] < table[:, 1].max()
            if not behind.any() or (table[:, 2] == _FAILED).any():
                return table, None
            sum_ = self._passed_on(comm, int(np.argmax(table[:, 1])))
        except MPI.Exception:
            return None
        return table, sum_ if behind[comm.rank] else None

    def _passed_on(self, comm: MPI.Intracomm, root: int) -> Contribution:
        """Return on all ranks what `root` has kept of its last exchange."""
        arrays: list[np.ndarray] = []
        if comm.rank == root:
            assert self._last is not None  # noqa: S101 -- it has made an exchange more than others
            arrays = [self._last.numbers]
            for table in self._last.tables:
                arrays += [table.indices, table.values]
        received = pass_on(self._caller, comm, root, arrays)
        numbers, *rest = received
        tables = [Slices(*rest[at : at + 2]) for at in range(0, len(rest), 2)]
        return Contribution(numbers, tables)

    def _agreed(self, comm: MPI.Intracomm, *, well: bool) -> bool:
        """Return whether all live ranks say that all is well; the same on all of them."""
        from mpi4py import MPI

        try:
            return bool(self._caller.run(lambda: comm.Agree(int(well))))
        except MPI.Exception:
            return False


def _failures() -> set[int]:
    """Return the classes of errors that tell of another rank's death."""
    from mpi4py import MPI

    return {MPI.ERR_PROC_FAILED, MPI.ERR_PROC_FAILED_PENDING, MPI.ERR_REVOKED}


def _return_errors(comm: MPI.Comm) -> MPI.Intracomm:
    """Let calls on `comm` return errors, where MPI would end the process."""
    from mpi4py import MPI

    assert isinstance(comm, MPI.Intracomm)  # noqa: S101 -- of one as it is
    comm.Set_errhandler(MPI.ERRORS_RETURN)
    return comm


def pass_on(
    caller: Caller, comm: MPI.Intracomm, root: int, arrays: Sequence[np.ndarray]
) -> list[np.ndarray]:
    """Return on all ranks of `comm` the arrays that `root` gives; others give none."""
    heads = [(each.dtype.str, each.shape) for each in arrays]
    content = objects.encode(heads) if comm.rank == root else b""
    length = np.array([len(content)], np.int64)
    caller.run(lambda: comm.Bcast(length, root))
    head = np.frombuffer(content, np.uint8).copy() if content else np.empty(length[0], np.uint8)
    caller.run(lambda: comm.Bcast(head, root))
    found = list(arrays)
    if comm.rank != root:
        found = [np.empty(shape, dtype) for dtype, shape in objects.decode(head.tobytes())]
    for index, array in enumerate(found):
        found[index] = sent = np.ascontiguousarray(array).reshape(array.shape)
        flat = sent.reshape(-1).view(np.uint8)
        caller.run(partial(comm.Bcast, flat, root))
    return found
