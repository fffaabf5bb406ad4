"""Send measurements from a thread, so that no step waits for it.

Packing a message and putting it on its way takes most of a millisecond: nothing, while
TensorFlow computes without Python, but a tenth of a short step if the step had to wait.
"""

from __future__ import annotations

import queue
import threading
import time
from typing import TYPE_CHECKING

from eai_notebook.bookkeeping import TELEMETRY
from eai_notebook.telemetry import messages

if TYPE_CHECKING:
    from collections.abc import Callable

_PATIENCE_S = 10.0


class Sender:
    """Runs jobs one after another on a thread of its own, started with the first."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self.spent_ns = 0
        """Processor time that the jobs took so far, in nanoseconds."""

    def submit(self, job: Callable[[], None]) -> None:
        """Have `job` run soon."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="eai-sender", daemon=True)
            self._thread.start()
        self._jobs.put(job)

    def drain(self) -> None:
        """Wait until all jobs submitted so far have run; 10 s at most."""
        if self._thread is None:
            return
        done = threading.Event()
        self._jobs.put(done.set)
        done.wait(_PATIENCE_S)

    def _run(self) -> None:
        while True:
            job = self._jobs.get()
            began = time.thread_time_ns()
            with messages.books.doing(TELEMETRY):
                job()
            self.spent_ns += time.thread_time_ns() - began
