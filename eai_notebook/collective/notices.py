"""Short notices from rank 0 to the others, which nobody has to wait for.

An exchange needs all ranks; a notice does not: any rank may read the notices that have arrived.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from eai_notebook.collective.membership import communicator, rank, size

if TYPE_CHECKING:
    from mpi4py import MPI

_TAG: Final = 0x0EA2
_sent: list[tuple[Any, bytes]] = []
"""Notices on their way, kept until MPI is done with their bytes."""
_heard: list[dict[str, Any]] = []
_ring: MPI.Intracomm | None = None
KEPT: Final = 1000
"""How many notices a rank remembers."""


def announce(notice: dict[str, Any]) -> None:
    """Send `notice`, which JSON can hold, to all other ranks; only rank 0 may call it."""
    comm = communicator()
    if comm is None:
        return
    _sent[:] = [(request, content) for request, content in _sent if not request.Test()]
    content = json.dumps(notice).encode()
    message = [content, len(content), _byte()]
    _sent.extend((comm.Isend(message, dest=other, tag=_TAG), content) for other in range(1, size()))


def heard() -> list[dict[str, Any]]:
    """Return what rank 0 has announced in this ring so far, oldest first; nothing on rank 0.

    Examples:
        >>> heard()
        []
    """
    global _ring
    comm = communicator()
    if comm is not _ring:
        _ring = comm
        _heard.clear()
    if comm is None or rank() == 0:
        return []
    while comm.Iprobe(source=0, tag=_TAG, status=(status := _status())):
        content = bytearray(status.Get_count(_byte()))
        comm.Recv([content, len(content), _byte()], source=0, tag=_TAG)
        _heard.append(json.loads(content.decode()))
    del _heard[:-KEPT]
    return _heard


def _status() -> MPI.Status:
    from mpi4py import MPI

    return MPI.Status()


def _byte() -> MPI.Datatype:
    from mpi4py import MPI

    return MPI.BYTE
