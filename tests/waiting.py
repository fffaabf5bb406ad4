"""Waiting for an event itself, for as long as a machine that is busy with other work may need.

A test that sleeps, or that gives up after what is usual on an idle machine, fails where four other
programs run beside it. These waits end at once when the event is there.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE_S: Final = 600.0
"""How long an event may take before a test fails; pytest itself gives up on a test after 900 s."""


def wait_until(holds: Callable[[], object], seconds: float = PATIENCE_S) -> bool:
    """Return whether something holds; wait for it as long as that may take.

    Examples:
        >>> wait_until(lambda: True)
        True
        >>> wait_until(lambda: False, 0.0)
        False
    """
    until = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


def do_when(holds: Callable[[], object], action: Callable[[], object]) -> threading.Thread:
    """Do something in another thread as soon as something holds; return the thread."""

    def work() -> None:
        if wait_until(holds):
            action()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def press_stop_when(holds: Callable[[], object]) -> threading.Thread:
    """Press Stop, as Jupyter does for a kernel, as soon as something holds; return the thread."""
    return do_when(holds, lambda: os.kill(os.getpid(), signal.SIGINT))
