"""Calls that wait, run in a thread: the one that asks for them can be interrupted meanwhile."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from mpi4py import MPI

LOOK_S: Final = 0.2
"""How often a call that waits looks whether its communicator is revoked."""
GRACE_S: Final = 1.0
"""How long a call may take to end by itself after that."""

Result = TypeVar("Result")


class Caller:
    """Runs calls that wait in a thread, so that the one that asks can be interrupted meanwhile."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[_Call[Any]] = queue.SimpleQueue()
        self._is_idle = False

    def run(self, call: Callable[[], Result]) -> Result:
        """Return what `call` does, or raise what it raises.

        If the one that asks is interrupted, the call goes on, in a thread that is left to it.
        """
        asked = self._begin(call)
        asked.is_over.wait()
        return self._end(asked)

    def run_on(self, comm: MPI.Intracomm, call: Callable[[], Result]) -> Result:
        """Return what `call` does, which waits for peers on `comm`, or raise what it raises.

        MPI ends the call when `comm` is revoked, but for one: a send to a peer that died before
        the two were ever connected (Open MPI 5.0.11). Nor does it end a call that waits for a peer
        which lives and has left it: that one knew of a death, and has died itself before it could
        revoke `comm`. Both are left to their threads.

        Raises:
            MPI.Exception: A peer has died.
        """
        from mpi4py import MPI

        asked = self._begin(call)
        while not asked.is_over.wait(LOOK_S):
            is_broken = comm.Is_revoked() or comm.Get_failed().size > 0
            if is_broken and not asked.is_over.wait(GRACE_S):
                raise MPI.Exception(MPI.ERR_REVOKED)
        return self._end(asked)

    def try_for(self, seconds: float, call: Callable[[], Result]) -> Result | None:
        """Return what `call` does; None if it goes on after some seconds, in its thread."""
        asked = self._begin(call)
        return self._end(asked) if asked.is_over.wait(seconds) else None

    def _begin(self, call: Callable[[], Result]) -> _Call[Result]:
        if not self._is_idle:
            self._calls = queue.SimpleQueue()
            thread = threading.Thread(
                target=_serve, args=[self._calls], name="eai-elastic", daemon=True
            )
            thread.start()
        self._is_idle = False
        asked = _Call(call)
        self._calls.put(asked)
        return asked

    def _end(self, asked: _Call[Result]) -> Result:
        self._is_idle = True
        if asked.error is not None:
            raise asked.error
        found: Result = asked.value
        return found


class _Call(Generic[Result]):
    """A call, and what it has come to."""

    def __init__(self, call: Callable[[], Result]) -> None:
        self.call = call
        self.is_over = threading.Event()
        self.value: Any = None
        self.error: BaseException | None = None


def _serve(calls: queue.SimpleQueue[_Call[Any]]) -> None:
    while True:
        asked = calls.get()
        try:
            asked.value = asked.call()
        except BaseException as error:  # noqa: BLE001 -- it is raised where it was asked for
            asked.error = error
        asked.is_over.set()
        del asked
