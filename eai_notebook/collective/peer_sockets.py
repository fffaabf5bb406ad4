"""Sockets between ranks of different hosts: a peer that is not there any more becomes an error.

Nobody says a word when a cable is pulled or a host stops: MPI would wait for a quarter of an hour. So the
system is asked to give a peer up that does not acknowledge for some seconds. A host whose processes are
slow acknowledges all the same; MPI takes the error for the death of the rank.

The system counts anew when something is sent on a connection that was idle, as the news of the first death
is to the other ranks of the same host. So a connection is shut as well on which nothing has come for as long.

Source: ``struct tcp_info`` of ``linux/tcp.h``.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

SILENT_S: Final = 5
"""After so long without an acknowledgement a peer is given up."""
_LOOK_S: Final = 0.5
_LAST_ACK: Final = 56
"""Where in ``struct tcp_info`` the milliseconds since the last acknowledgement are."""


def give_up_silent_peers(but: Container[str] = ()) -> None:
    """Have all TCP connections to other hosts, present and to come, end when these fall silent.

    Args:
        but: Addresses of hosts to which connections are left as they are.
    """
    threading.Thread(target=_watch, args=[but], name="eai-sockets", daemon=True).start()


def _watch(but: Container[str]) -> None:
    since: dict[str, float] = {}
    while True:
        look(since, but)
        time.sleep(_LOOK_S)


def look(since: dict[str, float], but: Container[str] = ()) -> int:
    """Set the limits on this process's connections to other hosts, and shut those that are silent.

    Args:
        since: When each connection was seen first, by its name; it is kept up to date.
        but: Addresses of hosts to which connections are left as they are.

    Returns:
        How many connections there are.
    """
    now, seen = time.monotonic(), {}
    for name, each in _connections(but):
        first = seen[name] = since.get(name, now)
        with contextlib.suppress(OSError):  # one that has just ended
            _limit(each)
            # Before the limits were set, an idle connection had no cause to hear anything.
            if now - first >= SILENT_S and silent_s(each) >= SILENT_S:
                each.shutdown(socket.SHUT_RDWR)
    since.clear()
    since.update(seen)
    return len(seen)


def silent_s(connection: socket.socket) -> float:
    """Return the seconds since the peer's last acknowledgement, of data or of a question."""
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _LAST_ACK + 4)
    return int.from_bytes(info[_LAST_ACK:], sys.byteorder) / 1000


def _connections(but: Container[str]) -> Iterator[tuple[str, socket.socket]]:
    """Yield this process's connections to other hosts, with names of their own."""
    for file in list(Path("/proc/self/fd").iterdir()):
        with contextlib.suppress(OSError, ValueError):
            name = str(file.readlink())
            if not name.startswith("socket:"):
                continue
            with socket.socket(fileno=os.dup(int(file.name))) as each:
                if each.type != socket.SOCK_STREAM or each.family not in _FAMILIES:
                    continue
                peer = each.getpeername()[0]
                if not ipaddress.ip_address(peer).is_loopback and peer not in but:
                    yield name, each


_FAMILIES: Final = (socket.AF_INET, socket.AF_INET6)


def _limit(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 2)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, SILENT_S - 2)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENT_S * 1000)
