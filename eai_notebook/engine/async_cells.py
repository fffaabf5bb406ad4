"""Cells with a top-level ``await``: they run on the rank's own event loop, and Stop ends them.

Python cannot raise `KeyboardInterrupt` in a coroutine that waits, and one raised in a task ends
the whole event loop, which is the rank. So an interrupt raises in the cell's own code where that
is running, and cancels the cell's task where it waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NoReturn

from ipyparallel.engine.kernel import IPythonParallelKernel

from eai_notebook.engine import prompts, stack_location

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType


class RankKernel(IPythonParallelKernel):
    """An engine's kernel that always replies to a cell, one with ``await`` as well.

    ipykernel 7 asks its channel thread whether the cell runs in the main thread; an engine has
    no such thread, and the error that follows leaves the cell without a reply.
    """

    _supports_kernel_subshells = False  # also while there is what stands for that thread

    async def do_execute(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Run a cell; whatever happens, return a reply."""
        self.shell_channel_thread: Any = SimpleNamespace(parent_thread=threading.main_thread())
        try:
            reply: dict[str, Any] = await super().do_execute(*args, **kwargs)
            if reply.get("ename") == "NoneType":  # ipykernel 7, when the result cannot be displayed
                error = sys.last_value
                reply |= {"ename": type(error).__name__, "evalue": str(error)}
        except asyncio.CancelledError:  # before its first line
            return self._failed(KeyboardInterrupt())
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001  # the session waits for a reply
            return self._failed(error)
        finally:
            self.shell_channel_thread = None
            # Until the reply has left; the kernel sets the handler between cells itself.
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGINT, signal.SIG_IGN)
        return reply

    def _failed(self, error: BaseException) -> dict[str, Any]:
        return {
            "status": "error",
            "ename": type(error).__name__,
            "evalue": str(error),
            "traceback": [],
            "engine_info": self.get_engine_info(method="execute"),
            "execution_count": self.shell.execution_count,
            "user_expressions": {},
            "payload": [],
        }

    @contextlib.contextmanager
    def _cancel_on_sigint(self, future: asyncio.Future[Any]) -> Iterator[None]:
        usual = signal.getsignal(signal.SIGINT)
        stack_location.awaited = future if isinstance(future, asyncio.Task) else None
        handler = interrupter(future, self.shell.user_ns, self._on_cancel)
        signal.signal(signal.SIGINT, handler)
        try:
            yield
        finally:
            stack_location.awaited = None
            signal.signal(signal.SIGINT, usual)

    def raw_input(self, prompt: str = "") -> NoReturn:
        """Refuse `input`, which stands for this while a cell runs."""
        prompts.refuse_input(prompt)

    def getpass(self, prompt: str = "", stream: Any = None) -> NoReturn:
        """Refuse `getpass.getpass`, which stands for this while a cell runs."""
        prompts.refuse_password(prompt, stream)

    _on_cancel: Callable[[], None] = staticmethod(lambda: None)


def install(kernel: Any, on_cancel: Callable[[], None]) -> None:
    """Make `kernel` a `RankKernel`; `on_cancel` is called when an interrupt cancels a cell."""
    kernel.__class__ = RankKernel
    kernel._on_cancel = on_cancel  # noqa: SLF001


def interrupter(
    cell: asyncio.Future[Any], user_ns: dict[str, Any], on_cancel: Callable[[], None]
) -> Callable[[int, FrameType | None], None]:
    """Return the handler of SIGINT while `cell` runs, whose globals are `user_ns`."""
    loop = asyncio.get_running_loop()

    def interrupt(_number: int, frame: FrameType | None) -> None:
        in_users_code = stack_location.is_inside(frame, user_ns)
        if in_users_code and asyncio.current_task(loop) is cell:
            raise KeyboardInterrupt
        on_cancel()
        loop.call_soon_threadsafe(cell.cancel)
        if in_users_code:  # another task of the user, which would end the loop with the former
            raise asyncio.CancelledError

    return interrupt
