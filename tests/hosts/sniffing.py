"""A stranger on the network of the test hosts: everything that crosses their switch."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import threading
from typing import TYPE_CHECKING

from typing_extensions import Self
from waiting import PATIENCE_S

if TYPE_CHECKING:
    from hosts.cluster import Hosts

_CLONE_NEWNET = 0x40000000
_EVERYTHING = 3
_LOOK_S = 0.2


class Sniffer:
    """Listens on the switch while its ``with`` block runs; `caught` is what crossed it."""

    def __init__(self, hosts: Hosts) -> None:
        self._switch = hosts._network._switch
        self._stop, self._ready = threading.Event(), threading.Event()
        self._frames: list[bytes] = []
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(PATIENCE_S)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def caught(self) -> bytes:
        """All frames, one after the other."""
        return b"".join(self._frames)

    def _listen(self) -> None:
        number = os.open(f"/run/netns/{self._switch}", os.O_RDONLY)
        if ctypes.CDLL(None, use_errno=True).setns(number, _CLONE_NEWNET):  # this thread alone
            raise OSError(ctypes.get_errno(), "setns")
        os.close(number)
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.ntohs(_EVERYTHING)) as line:
            line.settimeout(_LOOK_S)
            self._ready.set()
            while not self._stop.is_set():
                with contextlib.suppress(TimeoutError):
                    self._frames.append(line.recv(70_000))
