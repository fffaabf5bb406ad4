"""Measure the bandwidth of the links between hosts, both ways at once, without MPI."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import threading
import time
from typing import TYPE_CHECKING, Final

from eai_notebook.collective.objects import gather_all

if TYPE_CHECKING:
    from mpi4py import MPI

_WARM_UP_S: Final = 0.3
"""A link may carry a burst first, and TCP has to find its speed."""
_CHUNK: Final = 1 << 20
_PATIENCE_S: Final = 10.0


def ring_goodput(comm: MPI.Comm, address: str, seconds: float) -> float:
    """Return how many bytes a second each rank receives while all send to their next one.

    `comm` has one rank a host. Each sends to the next as fast as TCP takes it and
    receives from the previous, so that every link is full both ways; the slowest rank's
    figure is returned, on all. `address` is this host's on the network to measure.
    """
    with socket.create_server((address, 0)) as door:
        door.settimeout(_PATIENCE_S)
        port = door.getsockname()[1]
        doors = gather_all(comm, [int(ipaddress.IPv4Address(address)), port])
        next_address, next_port = map(int, doors[(comm.rank + 1) % comm.size])
        to = str(ipaddress.IPv4Address(next_address)), next_port
        out = socket.create_connection(to, _PATIENCE_S)
        into, _ = door.accept()
    stop = threading.Event()
    sender = threading.Thread(target=_send, args=(out, stop), daemon=True)
    with out, into:
        into.settimeout(_PATIENCE_S)
        comm.Barrier()
        sender.start()
        _receive(into, _WARM_UP_S)
        rate = _receive(into, seconds)
        rates = gather_all(comm, rate)
        # All have their figure: what is still on its way is not waited for.
        stop.set()
        for line in (out, into):
            with contextlib.suppress(OSError):  # the neighbour may have hung up first
                line.shutdown(socket.SHUT_RDWR)
        sender.join(_PATIENCE_S)
    return float(rates.min())


def _send(line: socket.socket, stop: threading.Event) -> None:
    chunk = bytes(_CHUNK)
    try:
        while not stop.is_set():
            line.sendall(chunk)
    except OSError:  # the receiver has its figure and has hung up
        return


def _receive(line: socket.socket, seconds: float) -> float:
    buffer = bytearray(_CHUNK)
    got, begin = 0, time.perf_counter()
    while (passed := time.perf_counter() - begin) < seconds:
        got += line.recv_into(buffer)
    return got / passed
