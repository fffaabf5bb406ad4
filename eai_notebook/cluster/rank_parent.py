"""The parent of a rank, which reports what the rank died of where ``mpirun`` does not.

With fault tolerance ``mpirun`` goes on without a word when a rank dies. So the process that it has
started forks before it is a rank: the child becomes the rank, and the parent waits for its end,
reports it as ``mpirun`` would, and ends in the same way.

Where ranks are on other hosts, the child is in a session of its own: when a host is lost, ``mpirun``
ends with all processes that it finds, and the ranks of the other hosts must outlive it. They end when
they have lost the controller as well (`orphaned_rank`).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import sys

ENABLED = "EAI_ELASTIC"
"""The variable that says that ranks outlive each other."""

AWAY = "EAI_AWAY"
"""The variable that says that ranks are on other machines than the controller."""

NUMBER = "EAI_NUMBER"
"""The variable with the number of a rank that was started while its group ran."""

_PR_SET_PDEATHSIG = 1
_FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)

_left: int | None = None


def left_behind() -> int | None:
    """Return the parent that this process outlives; None if it does not."""
    return _left


def split_off() -> None:
    """Go on as a child of this process, if ranks outlive each other; the parent never returns."""
    global _left
    if not os.environ.get(ENABLED):
        return
    parent = os.getpid()
    away = bool(os.environ.get(AWAY))
    child = os.fork()
    if child:
        _follow(child, () if away else _FORWARDED)
    if away:
        os.setsid()
        _left = parent
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it has died before it was watched
        os._exit(1)


def _follow(child: int, forwarded: tuple[signal.Signals, ...]) -> None:
    """Wait for the child, report its end, and end in the same way."""

    def forward(number: int, _: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, number)

    for each in forwarded:
        signal.signal(each, forward)
    _, status = os.waitpid(child, 0)
    newcomer = os.environ.get(NUMBER)
    rank = newcomer or os.environ.get("OMPI_COMM_WORLD_RANK", "0")
    sys.stderr.write(death_notice(rank, child, status))
    sys.stderr.flush()
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    if newcomer:  # mpirun would end the whole group with a newcomer that just exits
        os.kill(os.getpid(), signal.SIGKILL)
    os._exit(os.waitstatus_to_exitcode(status))


def death_notice(rank: str, pid: int, status: int) -> str:
    r"""Return what ``mpirun`` would write of a rank that ended with a wait status.

    Examples:
        >>> death_notice("2", 77, 9).startswith("process rank 2 with PID 77 on node ")
        True
        >>> death_notice("2", 77, 3 << 8)
        'Process name: [rank,2]\nExit code: 3\n'
    """
    if os.WIFSIGNALED(status):
        host = socket.gethostname()
        return f"process rank {rank} with PID {pid} on node {host} exited on signal {os.WTERMSIG(status)}\n"
    code = os.waitstatus_to_exitcode(status)
    if code:
        return f"Process name: [rank,{rank}]\nExit code: {code}\n"
    host = socket.gethostname()
    return f"process rank {rank} with PID {pid} on node {host} exiting improperly\n"
