"""Deaths of the other ranks on this host, which are reported to MPI where its daemon may be gone.

Ranks of one host exchange by shared memory, in which a death leaves no trace: MPI hears of it from its
daemon. When ``mpirun`` has lost a host, it has ended with all of its daemons, and on a host that is cut off the
daemon has nobody to report to. Then a rank would wait without end for one that has died beside it. So each
rank watches the others of its host, and passes their deaths on to its own MPI, as the daemon does.

Source: PMIx standard 5.0, chapter 9 (event notification); values of ``pmix_common.h``.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import threading
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from mpi4py import MPI

_TERMINATED: Final = -200
"""``PMIX_ERR_PROC_TERM_WO_SYNC``: a process has ended without a word to MPI."""
_AFFECTED: Final = b"pmix.evproc"
_PROC: Final = 22
"""``PMIX_PROC``, the type of a value."""
_TO_ITSELF: Final = 7
"""``PMIX_RANGE_PROC_LOCAL``: an event that stays within the process; it needs no daemon."""
_ROOM: Final = 4096
"""Bytes for a ``pmix_info_t``, which has about 550."""


class _Proc(ctypes.Structure):
    """``pmix_proc_t``: a process by its job's name and its rank in it."""

    _fields_ = (("nspace", ctypes.c_char * 256), ("rank", ctypes.c_uint32))


def watch(world: MPI.Intracomm) -> None:
    """Report from now on the deaths of ranks on this host; all of `world` must call it at once."""
    from mpi4py import MPI

    here = world.Split_type(MPI.COMM_TYPE_SHARED)
    mine = np.array([world.rank, os.getpid()], np.int64)
    all_ = np.empty((here.size, len(mine)), np.int64)
    here.Allgather(mine, all_)
    here.Free()
    watched: dict[int, int] = {}
    for rank, pid in all_.tolist():
        if rank != world.rank and hasattr(os, "pidfd_open"):
            with contextlib.suppress(OSError):  # one that this process cannot see
                watched[os.pidfd_open(pid)] = rank
    if watched:
        threading.Thread(target=_watch, args=[watched], name="eai-deaths", daemon=True).start()


def _watch(watched: dict[int, int]) -> None:
    ends = select.poll()
    for file in watched:
        ends.register(file, select.POLLIN)
    while watched:
        for file, _ in ends.poll():
            report(watched.pop(file))
            ends.unregister(file)
            os.close(file)


def report(rank: int) -> bool:
    """Have this process's MPI know that a rank of `MPI.COMM_WORLD` is dead; return whether it does."""
    with contextlib.suppress(OSError, AttributeError, KeyError):
        pmix = ctypes.CDLL("libpmix.so.2")
        job = os.environ["PMIX_NAMESPACE"].encode()
        dead, info = _Proc(job, rank), ctypes.create_string_buffer(_ROOM)
        pmix.PMIx_Info_load(info, _AFFECTED, ctypes.byref(dead), ctypes.c_uint16(_PROC))
        # It reads the event before it returns, since there is no function to call back.
        status: int = pmix.PMIx_Notify_event(
            _TERMINATED,
            ctypes.byref(dead),
            ctypes.c_uint8(_TO_ITSELF),
            info,
            ctypes.c_size_t(1),
            None,
            None,
        )
        return status in _ACCEPTED
    return False


_ACCEPTED: Final = (0, -157)
"""``PMIX_SUCCESS``, and ``PMIX_OPERATION_SUCCEEDED``."""
