"""Forked children of a rank: they end of signals, as ``multiprocessing`` expects.

An engine handles SIGTERM by an event loop, and a rank reads its signals from a pipe. A forked
child inherits both: `Process.terminate` would not end it, and a pool that is left would wait for
ever.
"""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

_mask = threading.local()


def install(own: Iterable[signal.Signals] = ()) -> None:
    """Have children that this process forks use Python's own handlers, also for signals in `own`.

    Signals wait while one is forked: one that came before the child has its handlers would be
    lost there, and a pool ends its workers as soon as it has started them.
    """
    defaults: dict[signal.Signals, Any] = {
        signal.SIGTERM: signal.SIG_DFL,
        signal.SIGINT: signal.default_int_handler,
    }
    defaults.update(dict.fromkeys(own, signal.SIG_DFL))

    def block() -> None:
        _mask.usual = signal.pthread_sigmask(signal.SIG_BLOCK, defaults)

    def unblock() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, _mask.usual)

    def begin_child() -> None:
        signal.set_wakeup_fd(-1)
        for number, handler in defaults.items():
            signal.signal(number, handler)
        unblock()

    os.register_at_fork(before=block, after_in_parent=unblock, after_in_child=begin_child)
