"""A rank whose ``mpirun`` has ended goes on only as long as the controller is there.

A host that is cut off loses both: its ranks end by themselves, and do not go on as a second group
while the ranks of the other hosts go on as the first.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from typing import Final
from urllib.parse import urlsplit

LOOK_S: Final = 1.0
CONNECT_S: Final = 2.0
TRIES: Final = 3
"""So often in a row the controller is not reached by a rank that gives it up."""


def watch(parent: int, controller_url: str) -> None:
    """End this process once `parent` has ended and the controller at ``tcp://HOST:PORT`` is gone."""
    thread = threading.Thread(
        target=_watch, args=[parent, controller_url], name="eai-orphan", daemon=True
    )
    thread.start()


def is_reachable(controller_url: str) -> bool:
    """Return whether something listens at ``tcp://HOST:PORT``; waits for some seconds at most."""
    where = urlsplit(controller_url)
    try:
        with socket.create_connection((where.hostname or "", where.port or 0), CONNECT_S):
            return True
    except OSError:
        return False


def _watch(parent: int, controller_url: str) -> None:
    failed = 0
    while failed < TRIES:
        time.sleep(LOOK_S)
        if os.getppid() != parent:
            failed = 0 if is_reachable(controller_url) else failed + 1
    os.kill(os.getpid(), signal.SIGKILL)
