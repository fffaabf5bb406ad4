"""The guard: a rank that fails or is stopped frees the ranks that wait for it.

A rank whose cell raised will never join the collective its peers wait in. Shutting the
ring down on that one rank makes every other rank's blocked call return with an error,
and their processes and variables live on; the session forms the ring again before the
next cell. IPython's cell events are used, not a wrapper around the user's code, so that
tracebacks keep their lines.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import Any

from eai_notebook import collective
from eai_notebook.ledger import messages

INTERRUPT_GRACE_S = 1.0


class Guard:
    """Watches the cells of one shell; `install` makes the one this process needs."""

    def __init__(self) -> None:
        self._cell = 0
        self._running = False

    def before_cell(self, _info: Any) -> None:
        """Note that user code is running from now on."""
        self._cell += 1
        self._running = True

    def after_cell(self, result: Any) -> None:
        """End the cell's runs, and free the peers if the cell failed."""
        self._running = False
        error = result.error_in_exec or result.error_before_exec
        messages.cell_ended(_outcome(error))
        if error is not None:
            collective.release()

    def watch_interrupts(self, wakeups: int) -> None:
        """Free the ring when an interrupted cell goes on: its main thread sits in C code.

        Python raises `KeyboardInterrupt` only between two of its own instructions, so a
        rank blocked in a collective never sees it. The C handler writes to `wakeups` at
        once, and this thread reads it.
        """
        while True:
            signals = os.read(wakeups, 1)
            if signals and signals[0] == signal.SIGINT and self._running:
                self._release_if_stuck(self._cell)

    def _release_if_stuck(self, cell: int) -> None:
        deadline = time.monotonic() + INTERRUPT_GRACE_S
        while time.monotonic() < deadline:
            if not self._running or self._cell != cell:
                return
            time.sleep(0.02)
        collective.release()


def install(shell: Any) -> Guard:
    """Put a guard on `shell`'s cells and on SIGINT."""
    guard = Guard()
    shell.events.register("pre_run_cell", guard.before_cell)
    shell.events.register("post_run_cell", guard.after_cell)
    wakeups, from_handler = os.pipe()
    os.set_blocking(from_handler, False)
    signal.set_wakeup_fd(from_handler, warn_on_full_buffer=False)
    watcher = threading.Thread(target=guard.watch_interrupts, args=(wakeups,), daemon=True)
    watcher.name = "eai-interrupt"
    watcher.start()
    return guard


def _outcome(error: BaseException | None) -> str:
    if error is None:
        return "done"
    return "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
