"""Drills on the notebook's side: what becomes of a group when its kernel is what goes wrong."""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import psutil
from drills.runner import Result
from jupyter_client.manager import KernelManager
from kernel_sockets import socket_files

from eai_notebook.process_lease import started, still_running

if TYPE_CHECKING:
    from collections.abc import Iterable

    from drills.catalog import Comes
    from jupyter_client.blocking.client import BlockingKernelClient

Act = Literal["kill", "shut down", "close", "stop"]

PATIENCE = 600.0  # seconds for a cell, and for a group to leave
CELL = """%%distributed
import time
from eai_notebook import collective
canary = 40 + collective.rank()
for _ in range(30):
    collective.barrier()
    time.sleep(0.1)
"""
NEXT = """%%distributed
import numpy as np
assert collective.allreduce_numpy(np.ones(1))[0] == collective.size()
"""
KEPT = """%%distributed
assert canary == 40 + collective.rank()
"""


@dataclass(frozen=True)
class KernelDrill:
    """What is done to a notebook ``after`` so many seconds of a cell.

    ``kill`` is SIGKILL of the kernel, ``shut down`` what Jupyter does when a notebook is
    closed and its kernel with it, ``close`` the loss of the browser (tab, network) with the
    kernel alive, ``stop`` the press of Stop while ``%eai up`` is at work.
    """

    name: str
    act: Act
    after: float = 1.0

    @property
    def comes(self) -> Comes:
        """What must come of it: the group gone, a cell that goes on, or an interrupt."""
        return "interrupt" if self.act == "stop" else "fine" if self.act == "close" else "gone"


KERNEL_DRILLS = (
    KernelDrill("kernel SIGKILLed mid-cell", "kill"),
    KernelDrill("notebook closed and shut down mid-cell", "shut down"),
    KernelDrill("browser closed mid-cell", "close"),
    KernelDrill("stop early in the start", "stop", after=0.3),
    KernelDrill("stop late in the start", "stop", after=1.5),
)


class Notebook:
    """A kernel as a notebook has it, with the extension loaded."""

    def __init__(self) -> None:
        self._sockets = socket_files()
        self.manager = KernelManager(**self._sockets.__enter__())
        self.manager.start_kernel(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        assert self.manager.provisioner is not None
        self.process = psutil.Process(self.manager.provisioner.process.pid)  # type: ignore[attr-defined]
        self.client = self.connect()
        self.run("%load_ext eai_notebook")

    def connect(self) -> BlockingKernelClient:
        """Open a browser's channels to the kernel."""
        client = self.manager.blocking_client()
        client.start_channels()
        client.wait_for_ready(PATIENCE)
        return client

    def start(self, code: str) -> str:
        """Send a cell and return its message's name.

        Should it fail, the next one is run all the same: a kernel gives up, unseen, what comes
        within a moment of an error, as it does with "Run All".
        """
        return str(self.client.execute(code, stop_on_error=False))

    def reply(self, sent: str) -> str:
        """Return what ended the cell: ``"ok"``, or the error's name and text."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            answer = self.client.get_shell_msg(timeout=until - time.monotonic())
            if answer["parent_header"].get("msg_id") == sent:
                content = answer["content"]
                if content["status"] == "ok":
                    return "ok"
                return f"{content.get('ename')}: {content.get('evalue')}"
        raise TimeoutError

    def run(self, code: str) -> str:
        """Run a cell to its end and return what ended it."""
        return self.reply(self.start(code))

    def close(self) -> None:
        """End what is left of it."""
        self.client.stop_channels()
        if self.manager.is_alive():
            self.manager.shutdown_kernel()
        self.manager.cleanup_resources()
        self._sockets.__exit__(None, None, None)


def run(drill: KernelDrill, size: int) -> Result:
    """Do it to a notebook of its own, and look at what becomes of its group."""
    notebook = Notebook()
    try:
        if drill.act == "stop":
            return _stopped(notebook, drill, size)
        assert notebook.run(f"%eai up -n {size}") == "ok"
        group = notebook.process.children(recursive=True)
        assert len(group) > size
        sent = notebook.start(CELL)
        time.sleep(drill.after)
        if drill.act == "close":
            return _browser_closed(notebook, sent)
        return _gone(notebook, drill, group, size)
    finally:
        notebook.close()


def _stopped(notebook: Notebook, drill: KernelDrill, size: int) -> Result:
    """Press Stop while the group starts; the next start must work."""
    before = set(notebook.process.children(recursive=True))
    sent = notebook.start(f"%eai up -n {size}")
    time.sleep(drill.after)
    begin = time.monotonic()
    notebook.manager.interrupt_kernel()
    ended = notebook.reply(sent)
    seconds = time.monotonic() - begin
    started = set(notebook.process.children(recursive=True)) - before
    left = _left_of(started)
    after = [notebook.run(f"%eai up -n {size}"), notebook.run(CELL)]
    came: Comes = "interrupt" if ended.startswith("KeyboardInterrupt") else "error"
    said = "; ".join([ended, *after, *left])
    return Result(came, said, seconds, after == ["ok", "ok"], kept=True, left=len(left), writes=0)


def _browser_closed(notebook: Notebook, sent: str) -> Result:
    """Take the browser away; the cell must go on, and a new browser find everything."""
    begin = time.monotonic()
    notebook.client.stop_channels()
    time.sleep(1.0)
    notebook.client = notebook.connect()
    usable = notebook.run(NEXT) == "ok"
    seconds = time.monotonic() - begin
    return Result("fine", sent, seconds, usable, notebook.run(KEPT) == "ok", left=0, writes=0)


def _gone(notebook: Notebook, drill: KernelDrill, group: list[psutil.Process], size: int) -> Result:
    """Take the kernel away; its group must leave, and a new kernel start another."""
    begin = time.monotonic()
    if drill.act == "kill":
        notebook.process.kill()
    else:
        notebook.manager.shutdown_kernel()
    left = _left_of(group)
    seconds = time.monotonic() - begin
    successor = Notebook()
    try:
        usable = successor.run(f"%eai up -n {size}") == "ok" and successor.run(CELL) == "ok"
    finally:
        successor.close()
    said = "; ".join([drill.act, *left])
    return Result("gone", said, seconds, usable, kept=True, left=len(left), writes=0)


def _left_of(group: Iterable[psutil.Process]) -> list[str]:
    """Wait for processes to end; say which have not, after a while."""
    known = {each.pid: each for each in group}
    running = still_running(started(known), PATIENCE)
    return [str(known[pid]) for pid, _ in running]
