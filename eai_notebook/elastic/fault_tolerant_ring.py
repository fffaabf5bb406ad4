"""A ring of ranks that outlives the death of any of them, by MPI's fault tolerance (ULFM), and grows.

Each exchange ends with an agreement (ULFM's): either all ranks have the sum, or all make the
exchange once more. One rank's word is not enough. A collective that a death has cut short may
return as if all was well, and may have passed on to others, which know of no death, what was in
its buffer. Nobody goes back, nothing is undone, and all ranks have made the same exchanges. A rank
may still die between an agreement and its own return from it: so exchanges are numbered, the sum
of exchange n is kept until n + 1 is through, and one that has missed it gets it from another.

A newcomer comes in between two exchanges: each exchange carries which newcomers are ready. All then
form a larger communicator with it, and the first rank gives it the state. If any of them
dies meanwhile, the others go on in the ring that they had.

MPI's calls that wait run in a thread of their own: the main thread can be interrupted.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from eai_notebook.collective import newcomers, objects, survivors
from eai_notebook.elastic.contribution import Contribution, Slices
from eai_notebook.elastic.gradient_sum import GradientSum
from eai_notebook.elastic.member_changes import Change, State, TooFewRanksError
from eai_notebook.elastic.waiting_calls import Caller
from eai_notebook.errors import EaiError
from eai_notebook.ledger.virtual_ranks import block_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mpi4py import MPI

JOIN_S: Final = 20.0
"""How long a newcomer that is ready may take to come in, before the others go on without it."""
PATIENCE_S: Final = 60.0
"""How long the others wait for a rank that lives, but does not come to form the ring anew."""

_GOES_ON, _FAILED = 0, 1


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
        comm: The members, for this ring alone; see `form`.
        numbers: The members' numbers in the group, in the order of `comm`.
        virtual: How many virtual ranks there are; it never changes.
        least: With fewer live ranks than this nobody goes on.
        sequence: How many exchanges the members have made.

    Attributes:
        members: The live members' numbers, in order.
        number: This rank's number in the group.
        changes: What has become of the membership, in order.
        on_change: Called after each change, once the ring stands again.
    """

    def __init__(
        self,
        comm: MPI.Intracomm,
        numbers: Sequence[int],
        virtual: int,
        least: int = 1,
        sequence: int = 0,
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
        self.facts: dict[str, Any] = {}
        """What newcomers have to know of the training before they can join it."""
        self._comers: dict[int, int] = {}
        self._is_over = False
        """Whether all have ended their training, with an error: nobody waits for anybody."""
        self._sequence = sequence
        self._last: Contribution | None = None
        self._under_way: list[Any] = []
        self._given_up: list[tuple[float, list[Any]]] = []
        self.number = self.members[comm.rank]
        self._caller = Caller()
        self._comm = _return_errors(comm)

    @classmethod
    def form(
        cls, comm: MPI.Intracomm, numbers: Sequence[int], virtual: int, least: int = 1
    ) -> FaultTolerantRing:
        """Return a ring of all of `comm`, each of which must call this."""
        return cls(Caller().run(comm.Dup), numbers, virtual, least)

    @classmethod
    def join(cls) -> tuple[FaultTolerantRing, State]:
        """Return a ring that this newcomer has come in, and the state; waits until it is let in.

        If one of the others dies meanwhile, it asks to be let in once more.

        Raises:
            EaiError: The rank that has started this one has died.
        """
        caller = Caller()
        while True:
            newcomers.request(newcomers.READY)
            comm = _connected(caller, newcomers.port())
            found = None if comm is None else _handed_over(caller, comm, None)
            if comm is None or not _agreed(caller, comm, well=found is not None):
                continue
            assert found is not None  # noqa: S101 -- it was agreed on
            facts, arrays = found
            head = facts.pop("ring")
            ring = cls(comm, head["members"], head["virtual"], head["least"], head["sequence"])
            return ring, (facts, arrays)

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

    @property
    def wire(self) -> type:
        """The dtype in which gradients travel now; float64 where some rank sums those of several."""
        return np.float64 if self.virtual > self.size else np.float32

    def exchange(self, make: Callable[[range], Contribution]) -> Contribution:
        """Return the sum of what `make` gives for all virtual ranks, the same on all live ranks.

        If a rank dies, `make` is called once more, for the virtual ranks that this rank runs
        then. So it must not change anything that it depends on itself.

        Raises:
            EaiError: Too few ranks are left, or one that lives has failed.
        """
        from mpi4py import MPI

        while True:
            members, total = self.members, None
            mine = make(self.block)
            try:
                total = self._summed(mine)
            except MPI.Exception as error:
                if error.Get_error_class() not in _failures():
                    raise
                _revoke(self._comm)  # others may wait in there for this rank
            if not _agreed(self._caller, self._comm, well=total is not None) or total is None:
                self._keep_memory()
                kept = self._form_anew(_GOES_ON)
                if kept is None:
                    continue
                total = kept
            self._sequence += 1
            self._last = total
            live = len(members)
            _, leaving, coming, numbers = np.split(total.numbers, [1, 1 + live, 1 + 2 * live])
            self.leavers = tuple(m for m, wish in zip(members, leaving, strict=True) if wish)
            self._comers = {int(m): int(n) - 1 for m, n in zip(members, coming, strict=True) if n}
            runs = float(total.numbers[0])
            return Contribution(numbers, total.tables, total.gradients, total.precision, runs)

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

    def let_in(self, state: Callable[[], State]) -> bool:
        """Let in a newcomer that is ready, if there is one; return whether one has come.

        Args:
            state: Returns what the newcomer is given; called on the first rank alone.
        """
        comers, self._comers = self._comers, {}
        known = {sponsor: comer for sponsor, comer in comers.items() if sponsor in self.members}
        if not known:
            return False
        began = time.monotonic()
        sponsor, comer = min(known.items())
        comm = self._widened(sponsor, comer)
        if comm is None:
            self._form_anew(_GOES_ON)
            return False
        members = (*self.members, comer)
        head = {"members": list(members), "virtual": self.virtual, "least": self.least}
        head["sequence"] = self._sequence
        given = _handed_over(self._caller, comm, state, head)
        if not _agreed(self._caller, comm, well=given is not None):
            self._form_anew(_GOES_ON)
            return False
        newcomers.forget(comer)
        self._comm, self.members = comm, members
        change = Change((), members, time.monotonic() - began, (comer,))
        self.changes.append(change)
        self.on_change(change)
        return True

    def _widened(self, sponsor: int, comer: int) -> MPI.Intracomm | None:
        """Return a communicator of the members and a newcomer; None if one of them has died."""
        from mpi4py import MPI

        comm = self._comm
        position = self.members.index(sponsor)
        wider: MPI.Intracomm | None = None
        try:
            wider = self._caller.try_for(JOIN_S, lambda: newcomers.accept(comm, position, comer))
        except MPI.Exception:
            wider = None
        for each in newcomers.awaited():
            each.is_ready &= each.number != comer  # until it asks once more
        if wider is None:
            _revoke(comm)
        return wider if _agreed(self._caller, comm, well=wider is not None) else None

    def _coming(self) -> int:
        """Return the number of a newcomer of this rank that is ready, plus 1; 0 without one."""
        for each in newcomers.awaited():
            self._answer(each)
        ready = [each.number for each in newcomers.awaited() if each.is_ready]
        return min(ready) + 1 if ready else 0

    def _answer(self, newcomer: newcomers.Awaited) -> None:
        """Give a newcomer what it has asked for."""
        from mpi4py import MPI

        try:
            for request in newcomer.requests():
                if request == newcomers.ASKS:
                    newcomer.send_facts({**self.facts, "virtual": self.virtual})
                else:
                    newcomer.is_ready = True
        except MPI.Exception:
            newcomers.forget(newcomer.number)

    def close(self) -> None:
        """Return when all live ranks have come here; none needs this one any more then."""
        while not _agreed(self._caller, self._comm, well=True):
            self._form_anew(_GOES_ON)

    def fail(self) -> None:
        """Free the others, which wait for this rank, because it cannot go on; they get an error."""
        if self.size > 1 and not self._is_over:
            _revoke(self._comm)
            _agreed(self._caller, self._comm, well=False)  # they wait for that in each exchange
            self._form_anew(_FAILED)

    # ------------------------------------------------------------------- exchanges

    def _summed(self, mine: Contribution) -> Contribution:
        """Return the sum over the live ranks; before it how many virtual ranks, who leaves, who comes."""
        from mpi4py import MPI

        leaving, coming = np.zeros(self.size), np.zeros(self.size)
        leaving[self.rank], coming[self.rank] = self.is_leaving, self._coming()
        numbers = np.concatenate([[mine.runs], leaving, coming, mine.numbers])
        comm = self._comm
        total = GradientSum(comm, numbers, mine, np.result_type(self.wire, mine.precision))
        self._under_way = [mine, total]
        sums = self._caller.run_on(comm, total.run)
        tables = [self._gathered(table) for table in mine.tables]
        found = Contribution(sums[0], tables, sums[1], mine.precision)
        # Open MPI 5.0 returns from some collectives that a failure has cut short as if all was
        # well, with what was in the buffer before.
        if comm.Is_revoked() or comm.Get_failed().size:
            raise MPI.Exception(MPI.ERR_REVOKED)
        return found

    def _gathered(self, mine: Slices) -> Slices:
        """Return the rows of all ranks, in the order of the virtual ranks, merged."""
        comm = self._comm
        counts, count = np.zeros(comm.size, np.int64), np.array([len(mine.indices)], np.int64)
        self._caller.run_on(comm, lambda: comm.Allgather(count, counts))
        rows, shape = int(counts.sum()), mine.values.shape[1:]
        width = int(np.prod(shape))
        indices, values = np.empty(rows, np.int64), np.empty((rows, *shape), mine.values.dtype)
        sent = np.ascontiguousarray(mine.indices, np.int64), np.ascontiguousarray(mine.values)
        self._under_way += [counts, count, indices, values, *sent]
        self._caller.run_on(comm, lambda: comm.Allgatherv(sent[0], (indices, counts)))
        self._caller.run_on(comm, lambda: comm.Allgatherv(sent[1], (values, counts * width)))
        return Slices(indices, values).merged()

    def _keep_memory(self) -> None:
        """Keep what an exchange that came to nothing has used: MPI may still write to it.

        Messages of ranks that live may be under way when the exchange ends for this one.
        """
        now = time.monotonic()
        kept = [each for each in self._given_up if now - each[0] < PATIENCE_S]
        self._given_up = [*kept, (now, self._under_way)]

    # ------------------------------------------------------------- forming it anew

    def _form_anew(self, state: int) -> Contribution | None:
        """Form the ring of those that live.

        Returns:
            The sum of the exchange that this rank has missed and another has; None if none has.

        Raises:
            EaiError: Too few are left, or one of them has failed.
        """
        began, before = time.monotonic(), self.members
        survivors.leave_if_cut_off()
        while True:
            comm = self._shrunk()
            found = self._exchanged_states(comm, state)
            well = _agreed(self._caller, comm, well=found is not None)
            self._comm = comm
            if well and found is not None:
                break
        table, missed = found
        self.members = tuple(int(number) for number in table[:, 0])
        if state == _FAILED:
            return None
        failed = [number for number, _, its in table.tolist() if its == _FAILED]
        if failed:
            self._is_over = True
            raise PeerFailedError(failed[0])
        lost = tuple(number for number in before if number not in self.members)
        if lost:
            change = Change(lost, self.members, time.monotonic() - began)
            self.changes.append(change)
            self.on_change(change)
        if self.size < self.least:
            self._is_over = True
            raise TooFewRanksError(self.size, self.least)
        return missed

    def _shrunk(self) -> MPI.Intracomm:
        """Return a communicator of those that live; all of them must come."""
        _revoke(self._comm)
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
            self._caller.run_on(comm, lambda: comm.Allgather(mine, table))
            behind = table[:, 1] < table[:, 1].max()
            if not behind.any() or (table[:, 2] == _FAILED).any():
                return table, None
            sum_ = self._passed_on(comm, int(np.argmax(table[:, 1])))
        except MPI.Exception:
            _revoke(comm)
            return None
        return table, sum_ if behind[comm.rank] else None

    def _passed_on(self, comm: MPI.Intracomm, root: int) -> Contribution:
        """Return on all ranks what `root` has kept of its last exchange."""
        arrays: list[np.ndarray] = []
        if comm.rank == root:
            assert self._last is not None  # noqa: S101 -- it has made an exchange more than others
            arrays = [self._last.numbers, self._last.gradients]
            for table in self._last.tables:
                arrays += [table.indices, table.values]
        received = pass_on(self._caller, comm, root, arrays)
        numbers, gradients, *rest = received
        tables = [Slices(*rest[at : at + 2]) for at in range(0, len(rest), 2)]
        return Contribution(numbers, tables, gradients, str(gradients.dtype))


def _revoke(comm: MPI.Intracomm) -> None:
    """End the calls of others that still wait for this rank on `comm`."""
    if not comm.Is_revoked():
        comm.Revoke()


def _agreed(caller: Caller, comm: MPI.Intracomm, *, well: bool) -> bool:
    """Return whether all live ranks say that all is well; the same on all of them."""
    from mpi4py import MPI

    try:
        return bool(caller.run(lambda: comm.Agree(int(well))))
    except MPI.Exception:
        return False


def _connected(caller: Caller, port: str) -> MPI.Intracomm | None:
    """Return the communicator that a newcomer has come in; None if another rank has died."""
    from mpi4py import MPI

    try:
        return caller.try_for(JOIN_S, lambda: newcomers.connect(port))
    except MPI.Exception:
        return None


def _handed_over(
    caller: Caller,
    comm: MPI.Intracomm,
    state: Callable[[], State] | None,
    head: dict[str, Any] | None = None,
) -> State | None:
    """Return on all ranks what `state` returns on the first, with `head`; None if one has died."""
    from mpi4py import MPI

    arrays: list[np.ndarray] = []
    if comm.rank == 0 and state is not None:
        facts, arrays = state()
        encoded = objects.encode({**facts, "ring": head})
        arrays = [np.frombuffer(encoded, np.uint8), *arrays]
    try:
        found = pass_on(caller, comm, 0, arrays)
    except MPI.Exception:
        _revoke(comm)
        return None
    return objects.decode(found[0].tobytes()), found[1:]


def _failures() -> set[int]:
    """Return the classes of errors that report another rank's death."""
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
    caller.run_on(comm, lambda: comm.Bcast(length, root))
    head = np.frombuffer(content, np.uint8).copy() if content else np.empty(length[0], np.uint8)
    caller.run_on(comm, lambda: comm.Bcast(head, root))
    found = list(arrays)
    if comm.rank != root:
        found = [np.empty(shape, dtype) for dtype, shape in objects.decode(head.tobytes())]
    for index, array in enumerate(found):
        found[index] = sent = np.ascontiguousarray(array).reshape(array.shape)
        flat = sent.reshape(-1).view(np.uint8)
        caller.run_on(comm, partial(comm.Bcast, flat, root))
    return found
