"""The processes of a group that live, where MPI lets them outlive each other (ULFM)."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from eai_notebook.collective import host_deaths, lost_daemon

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mpi4py import MPI

_ENABLED: Final = "OMPI_MCA_mpi_ft_enable"
"""The variable in which ``mpirun --with-ft ulfm`` passes this to ranks."""
NUMBER: Final = "EAI_NUMBER"
"""The variable with the number of a process that was started while its group ran."""


@dataclass
class Living:
    """Those that live, and their numbers in the group, in the order of the communicator."""

    comm: MPI.Intracomm
    numbers: tuple[int, ...]


_living: Living | None = None
_is_connected: Callable[[], bool] | None = None


def is_fault_tolerant() -> bool:
    """Return whether MPI was started so that ranks outlive each other."""
    return os.environ.get(_ENABLED, "0") not in ("", "0", "false")


def end_where_cut_off(is_connected: Callable[[], bool]) -> None:
    """Have `leave_if_cut_off` ask `is_connected` whether this host still reaches the controller."""
    global _is_connected
    _is_connected = is_connected


def leave_if_cut_off() -> None:
    """End this process if its host is the one that was lost: the others go on without it.

    From there it looks as if all others had died. It must not go on alone, as a second group.
    """
    if _is_connected is not None and not _is_connected():
        os.kill(os.getpid(), signal.SIGKILL)


def number() -> int:
    """Return this process's number in the group, which it keeps whichever others live."""
    from mpi4py import MPI

    return int(os.environ.get(NUMBER, MPI.COMM_WORLD.rank))


def is_member() -> bool:
    """Return whether this process is in a communicator of those that live."""
    return _living is not None


def living() -> Living | None:
    """Return those that live, as far as it is known."""
    return _living


def living_among(world: MPI.Intracomm, members: int) -> Living | None:
    """Return those that live; None where a death is the end of all.

    The first call, with as many `members` as there are processes, is made by all of them. From
    then on a dead peer is an error of the exchange.
    """
    if not is_fault_tolerant():
        return None
    if _living is None and NUMBER not in os.environ:
        from mpi4py import MPI

        world.Set_errhandler(MPI.ERRORS_RETURN)
        if _is_connected is not None:  # this rank ends when it has lost the controller, too
            lost_daemon.outlive()
            if members == world.size:
                host_deaths.watch(world)
                _connect(world)
        if members == world.size:
            adopt(world.Dup(), range(world.size))
    return _living


def _connect(world: MPI.Intracomm) -> None:
    """Have each process of `world` exchange a message with each other one.

    MPI connects two processes when they first need it. If one is on a host that has fallen silent, the
    other finds that out anew, after those whose connections were given up; so all are made before.
    """
    mine, its = np.zeros(1, np.uint8), np.zeros(1, np.uint8)
    for shift in range(1, world.size):
        before, after = (world.rank - shift) % world.size, (world.rank + shift) % world.size
        world.Sendrecv(mine, after, 0, its, before, 0)


def adopt(comm: MPI.Intracomm, numbers: Sequence[int]) -> None:
    """Take `comm` for those that live, all of which must do so; `numbers` are theirs."""
    global _living
    from mpi4py import MPI

    comm.Set_errhandler(MPI.ERRORS_RETURN)
    _living = Living(comm, tuple(numbers))


def drop_dead() -> None:
    """Leave processes that have died out of `living_among`; all that live must call it."""
    if _living is None:
        return
    from mpi4py import MPI

    comm = _living.comm.Shrink()
    assert isinstance(comm, MPI.Intracomm)  # noqa: S101 -- of one as it is
    before, now = _living.comm.Get_group(), comm.Get_group()
    positions = now.Translate_ranks(list(range(now.size)), before)
    adopt(comm, [_living.numbers[position] for position in positions])
