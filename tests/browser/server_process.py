"""A server in a process of its own, on free ports of the loopback interface."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
import urllib.request
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PATIENCE_S: Final = 180.0
"""How long it may take to answer, on a busy machine."""
TRIES: Final = 3
"""How often it is started if another program takes one of the ports before it does."""


class ServerProcess:
    """Starts a server, waits until it answers, and ends it; its output goes into a file.

    ``command`` returns, for ports that nobody listens on, the arguments of `subprocess.Popen` and the
    address that answers once the server is up.
    """

    def __init__(
        self, log: Path, ports: int, command: Callable[[list[int]], tuple[dict[str, Any], str]]
    ) -> None:
        self._path = log
        for _ in range(TRIES):
            arguments, address = command(free_ports(ports))
            with log.open("wb") as file:
                self._process = subprocess.Popen(**arguments, stdout=file, stderr=file)
            if self._answers(address):
                return
            if "in use" not in self.log:
                break
        self.stop()
        pytest.fail(f"the server did not start:\n{self.log}")

    @property
    def log(self) -> str:
        """What the server has written so far."""
        return self._path.read_text(errors="replace")

    def stop(self) -> None:
        """End the server and what it has started."""
        self._process.terminate()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _answers(self, address: str) -> bool:
        """Return whether the server answers, rather than ends."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline and self._process.poll() is None:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(address, timeout=2).close()  # noqa: S310
                return True
            time.sleep(0.2)
        return False


def free_ports(number: int) -> list[int]:
    """Return ports of the loopback interface that nobody listens on."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(number)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
