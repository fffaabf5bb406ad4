"""`FaultyRegistry`: a registry of images that answers every request by the same fault."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from typing import Final

from typing_extensions import Self

RESET: Final = ""
"""The fault of a registry that cuts the connection."""
_AT_ONCE: Final = struct.pack("ii", 1, 0)


class FaultyRegistry:
    """Listens on this machine's loopback, which the test nodes share; use it in a ``with`` block.

    Args:
        status: What it answers, such as ``404 Not Found``, or `RESET`.
    """

    def __init__(self, status: str) -> None:
        self._status = status
        self._door = socket.create_server(("127.0.0.1", 0))
        self.image = f"127.0.0.1:{self._door.getsockname()[1]}/train:1"
        """The name of an image that it should have."""

    def __enter__(self) -> Self:
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._door.shutdown(socket.SHUT_RDWR)
        self._door.close()

    def _serve(self) -> None:
        while True:
            try:
                line, _ = self._door.accept()
            except OSError:  # closed
                return
            with line, contextlib.suppress(OSError):
                line.recv(1 << 16)
                if self._status == RESET:
                    line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
                else:
                    line.sendall(f"HTTP/1.1 {self._status}\r\nContent-Length: 0\r\n\r\n".encode())
