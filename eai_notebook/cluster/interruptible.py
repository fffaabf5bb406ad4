"""Run work in a thread so that Ctrl-C cancels it only where it is safe.

Starting a group makes processes one after the other, and each must be known before it can
be ended. An interrupt strikes the main thread anywhere, also between a process and the
record of it. So the work runs elsewhere and is told to stop where it can.
"""

from __future__ import annotations

import contextlib
import threading
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

Result = TypeVar("Result")

POLL_S = 0.05


def never() -> bool:
    """Return False: whoever waits is interrupted in the usual way."""
    return False


def run_interruptible(
    work: Callable[[Callable[[str], None]], Result],
    progress: Callable[[str], None],
    is_stopped: Callable[[], bool] = never,
) -> Result:
    """Return ``work(say)``; what it says is passed to `progress`, in this thread.

    On an interrupt, or when `is_stopped` says so, `say` raises `KeyboardInterrupt` inside the
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

    def __init__(self, work: Callable[[Callable[[str], None]], Result]) -> None:
        super().__init__(name="eai-aside", daemon=True)
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

    def wait(self, progress: Callable[[str], None], is_stopped: Callable[[], bool]) -> None:
        """Return when the work is done, passing on what it says meanwhile."""
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
