"""A rank that outlives MPI's daemon on its host.

When ``mpirun`` loses a host, it ends with all of its daemons, and Open MPI ends each process whose daemon
has gone. The daemon is not needed any more once the ranks have found each other, so its loss is no event for MPI here:
PMIx, through which MPI hears of it, asks our handler first.

Source: PMIx standard 5.0, chapter 9 (event notification); values of ``pmix_common.h``.
"""

from __future__ import annotations

import contextlib
import ctypes
from typing import Any, Final

_LOST_CONNECTION: Final = (-61, -101)
"""``PMIX_ERR_LOST_CONNECTION``, and that to the server."""
_COMPLETE: Final = -334
"""``PMIX_EVENT_ACTION_COMPLETE``: no other handler is asked."""

_Done = ctypes.CFUNCTYPE(
    None,
    ctypes.c_int,
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_void_p,
    ctypes.c_void_p,
    ctypes.c_void_p,
)
_Handler = ctypes.CFUNCTYPE(
    None,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_void_p,
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_void_p,
    ctypes.c_size_t,
    _Done,
    ctypes.c_void_p,
)


@_Handler
def _pass_over(*given: Any) -> None:
    """Say that the event has been dealt with; called in PMIx's own thread."""
    done, of_event = given[-2:]
    if done:
        done(_COMPLETE, None, 0, None, None, of_event)


def outlive() -> bool:
    """Have this process outlive its daemon, once MPI runs; return whether that can be had."""
    with contextlib.suppress(OSError, AttributeError):
        register = ctypes.CDLL("libpmix.so.2").PMIx_Register_event_handler
        register.restype = ctypes.c_int
        codes = (ctypes.c_int * len(_LOST_CONNECTION))(*_LOST_CONNECTION)
        # Without a function to call back, it returns the handler's number, or an error below 0.
        number: int = register(
            codes, ctypes.c_size_t(len(codes)), None, ctypes.c_size_t(0), _pass_over, None, None
        )
        return number >= 0
    return False
