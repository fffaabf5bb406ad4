"""The processes of a group that live, where MPI lets them outlive each other (ULFM)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from mpi4py import MPI

_ENABLED: Final = "OMPI_MCA_mpi_ft_enable"
"""The variable in which ``mpirun --with-ft ulfm`` passes this to ranks."""

_living: MPI.Intracomm | None = None


def is_fault_tolerant() -> bool:
    """Return whether MPI was started so that ranks outlive each other."""
    return os.environ.get(_ENABLED, "0") not in ("", "0", "false")


def living_among(world: MPI.Intracomm, members: int) -> MPI.Intracomm | None:
    """Return a communicator of those that live; None where a death is the end of all.

    The first call, with as many `members` as there are processes, is made by all of them. From
    then on a dead peer is an error of the exchange.
    """
    global _living
    if not is_fault_tolerant():
        return None
    if _living is None:
        from mpi4py import MPI

        world.Set_errhandler(MPI.ERRORS_RETURN)
        if members == world.size:
            _living = world.Dup()
            _living.Set_errhandler(MPI.ERRORS_RETURN)
    return _living


def drop_dead() -> None:
    """Leave processes that have died out of `living_among`; all that live must call it."""
    global _living
    if _living is None:
        return
    from mpi4py import MPI

    comm = _living.Shrink()
    assert isinstance(comm, MPI.Intracomm)  # noqa: S101 -- of one as it is
    comm.Set_errhandler(MPI.ERRORS_RETURN)
    _living = comm
