"""Run work in a thread so that Ctrl-C cancels it only where it is safe.

Starting a group makes processes one after the other, and each must be known before it can
be ended. An interrupt strikes the main thread anywhere, also between a process and the
record of it. So the work runs elsewhere and stops where it can.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

Result = TypeVar("Result")
Progress = Callable[[str], None]
"""Shows one line, in place of the line before; it raises `KeyboardInterrupt` to stop the work."""

POLL_S = 0.05


def never() -> bool:
    """Return False: waiting is interrupted in the usual way."""
    return False


def run_interruptible(
    work: Callable[[Progress], Result],
    progress: Progress,
    is_stopped: Callable[[], bool] = never,
) -> Result:
    """Return ``work(say)``; its words are passed to `progress`, in this thread.

    On an interrupt, or when `is_stopped` returns True, `say` raises `KeyboardInterrupt` inside the
    work, which then cleans up; it is raised here when that is done, or at once when the user
    insists.
    """
    task = _Task(work)
    task.start()
    try:
        task.wait(progress, is_stopped)
    except KeyboardInterrupt:
        task.cancelled.set()
        progress("stopping what was started")
        while task.is_alive() and not is_stopped():
            task.join(POLL_S)
        task.throw_away()
        raise
    return task.outcome()


class _Task(threading.Thread, Generic[Result]):
    """The thread that works."""

    def __init__(self, work: Callable[[Progress], Result]) -> None:
        super().__init__(name="eai-interruptible", daemon=True)
        self.cancelled = threading.Event()
        self._work = work
        self._words: SimpleQueue[str] = SimpleQueue()
        self._results: list[Result] = []
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            self._results.append(self._work(self._say))
        except BaseException as error:  # noqa: BLE001  # raised again where it is waited for
            self._error = error

    def wait(self, progress: Progress, is_stopped: Callable[[], bool]) -> None:
        """Return when the work is done, passing on its words meanwhile."""
        while self.is_alive():
            if is_stopped():
                raise KeyboardInterrupt
            with contextlib.suppress(Empty):
                progress(self._words.get(timeout=POLL_S))

    def outcome(self) -> Result:
        if self._error is not None:
            raise self._error
        return self._results[0]

    def throw_away(self) -> None:
        """Undo a result that came although it was not wanted any more."""
        for result in self._results:
            stop = getattr(result, "stop", None)
            if stop is not None:
                stop()

    def _say(self, words: str) -> None:
        if self.cancelled.is_set():
            raise KeyboardInterrupt
        self._words.put(words)
