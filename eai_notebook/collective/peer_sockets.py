"""Sockets between ranks of different hosts: a peer that is not there any more becomes an error.

Nobody says a word when a cable is pulled or a host stops: MPI would wait for a quarter of an hour. So the
system is asked to give a peer up that does not acknowledge for some seconds. A host whose processes are
slow acknowledges all the same; MPI takes the error for the death of the rank.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Container

SILENT_S: Final = 5
"""After so long without an acknowledgement a peer is given up."""
_LOOK_S: Final = 1.0


def give_up_silent_peers(but: Container[str] = ()) -> None:
    """Have all TCP connections to other hosts, present and to come, end when these fall silent.

    Args:
        but: Addresses of hosts to which connections are left as they are.
    """
    threading.Thread(target=_watch, args=[but], name="eai-sockets", daemon=True).start()


def _watch(but: Container[str]) -> None:
    while True:
        set_limits(but)
        time.sleep(_LOOK_S)


def set_limits(but: Container[str] = ()) -> int:
    """Set the limit on this process's connections to other hosts; return how many there are."""
    found = 0
    for file in list(Path("/proc/self/fd").iterdir()):
        with contextlib.suppress(OSError, ValueError):
            if not str(file.readlink()).startswith("socket:"):
                continue
            with socket.socket(fileno=os.dup(int(file.name))) as each:
                if each.type != socket.SOCK_STREAM or each.family not in _FAMILIES:
                    continue
                peer = each.getpeername()[0]
                if ipaddress.ip_address(peer).is_loopback or peer in but:
                    continue
                _limit(each)
                found += 1
    return found


_FAMILIES: Final = (socket.AF_INET, socket.AF_INET6)


def _limit(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 2)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, SILENT_S - 2)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENT_S * 1000)
