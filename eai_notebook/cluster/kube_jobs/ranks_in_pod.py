"""The ranks of an elastic group that run in this pod: each in a session of its own (`rank_parent`)."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Container

_PROGRAM: Final = b"eai_notebook.cluster.engine_process"
_ZOMBIE: Final = "Z"


def rank_pids(but: Container[int] = ()) -> list[int]:
    """Return the processes of the ranks; ``but`` are others that have a rank's program in their arguments."""
    return [int(each.name) for each in Path("/proc").glob("[0-9]*") if _is_rank(each, but)]


def _is_rank(process: Path, but: Container[int]) -> bool:
    pid = int(process.name)
    with contextlib.suppress(OSError):  # one that has just ended
        state = (process / "stat").read_text(errors="replace").rpartition(")")[2].split()[0]
        leads = os.getsid(pid) == pid and pid not in but and state != _ZOMBIE
        return leads and _PROGRAM in (process / "cmdline").read_bytes().split(b"\0")
    return False


def ask_to_leave(pids: list[int]) -> None:
    """Have ranks end at the end of their step, or at once where they do not train."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
