"""`LocalProcess`: a batch system for one job: a process on this machine, in the background."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
from typing import TYPE_CHECKING, Any

from eai_notebook.cluster.batch_system import OUTPUT_FILE, BatchJob, BatchState, BatchSystem
from eai_notebook.process_lease import is_running, started

if TYPE_CHECKING:
    from pathlib import Path

_started: list[subprocess.Popen[bytes]] = []
"""Kept, since Python warns of a process that nobody has waited for."""


class LocalProcess(BatchSystem):
    """Runs a notebook in a session of its own, which the terminal's end does not end."""

    def group_options(self, folder: Path) -> dict[str, Any]:  # noqa: ARG002
        """Return none: the notebook's own hold, or those that were given."""
        return {}

    def describe(self, job: BatchJob) -> str:
        """Return the command."""
        return f"cd {shlex.quote(str(job.work))}\n{shlex.join(job.command)}\n"

    def submit(self, job: BatchJob) -> str:
        """Start the process."""
        with (job.folder / OUTPUT_FILE).open("ab") as log:
            process = subprocess.Popen(
                job.command,
                cwd=job.work,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        _started.append(process)
        return identity_of(process.pid)

    def look(self, identity: str) -> BatchState | None:
        """Return whether the process runs; None on another machine."""
        host, pid, since = identity.rsplit(":", 2)
        if host != socket.gethostname():
            return None
        if is_running((int(pid), float(since))):
            return BatchState(f"running as process {pid}")
        return BatchState("ended", is_over=True)

    def cancel(self, identity: str) -> None:
        """Interrupt the notebook."""
        host, pid, since = identity.rsplit(":", 2)
        if host == socket.gethostname() and is_running((int(pid), float(since))):
            os.kill(int(pid), signal.SIGTERM)

    def title(self, identity: str) -> str:
        """Return the process."""
        host, pid, _ = identity.rsplit(":", 2)
        return f"process {pid} on {host}"


def identity_of(pid: int) -> str:
    """Return what names a process of this machine, and no later one of its pid."""
    ((_, since),) = started([pid])
    return f"{socket.gethostname()}:{pid}:{since}"
