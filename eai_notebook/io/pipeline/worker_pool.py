"""Reader processes for parts whose parsing is arbitrary Python; kept between epochs.

Threads would take turns at the interpreter with the training loop. A process that dies is an
error at once that names it and its file; nothing is tried again silently.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from typing import TYPE_CHECKING, Final

import cloudpickle

from eai_notebook.errors import EaiError
from eai_notebook.io.part import Loaded
from eai_notebook.io.pipeline.worker_process import WorkerReply, columns_of, receive_memory, send
from eai_notebook.python_command import code_command

if TYPE_CHECKING:
    from eai_notebook.io.part import Part
    from eai_notebook.io.pipeline.prefetch import Job
    from eai_notebook.io.pipeline.wait_meter import WaitMeter

_MAIN: Final = "from eai_notebook.io.pipeline.worker_process import main; main({channel}, {life})"
_POLL_S: Final = 0.1
_END_S: Final = 1.0  # given to a process to end by itself


class StoppedError(Exception):
    """Nobody wants the rows any more."""


class Worker:
    """One reader process; used by one thread at a time.

    Attributes:
        pid: Its number, for messages.
    """

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        ends, self._life = os.pipe()
        with theirs:
            command = _MAIN.format(channel=theirs.fileno(), life=ends)
            self._process = subprocess.Popen(
                code_command(command),
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(), ends),
                # Jupyter interrupts all of a session; a reader must not die of that.
                start_new_session=True,
            )
        os.close(ends)
        self._link = ours
        self.pid = self._process.pid
        send(self._link, cloudpickle.dumps(sys.path))

    def load(self, part: Part, stop: threading.Event) -> tuple[WorkerReply, list[int]]:
        """Return what came of a part.

        Raises:
            EaiError: The process has died.
            StoppedError: Nobody wants it any more.
        """
        try:
            send(self._link, cloudpickle.dumps(part))
            while not select.select([self._link], [], [], _POLL_S)[0]:
                if stop.is_set():
                    raise StoppedError
            text, memory = receive_memory(self._link)
        except (EOFError, BrokenPipeError, ConnectionResetError):
            raise EaiError(
                f"reader process {self.pid} {self._ended()} while it read {part.name}",
                "look for what ended it (often too little memory), then start the cell again",
                code="reader-process-died",
            ) from None
        answer: WorkerReply = pickle.loads(text)  # noqa: S301 - from our own process
        return answer, memory

    def close(self) -> None:
        """End the process, at once if it is busy."""
        self._link.close()
        with contextlib.suppress(OSError):
            os.close(self._life)
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _ended(self) -> str:
        """Return how the process came to its end."""
        try:
            code = self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            return "does not answer"
        if code < 0:
            return f"was ended by {signal.Signals(-code).name}"
        return f"ended with exit code {code}"


class WorkerPool:
    """Processes of some data that wait for their next epoch.

    Those of older data end when newer data is opened: a cell that is run again and again
    must not gather processes, and theirs may know older versions of the user's functions.
    """

    def __init__(self) -> None:
        for older in list(_pools):
            older.close()
        _pools.add(self)
        self._idle: list[Worker] = []
        self._lock = threading.Lock()
        self._closed = False

    def open(self) -> None:
        """Let processes wait again."""
        with self._lock:
            self._closed = False

    def take(self) -> Worker:
        """Return one that waits, or a new one."""
        with self._lock:
            if self._idle:
                return self._idle.pop()
        return Worker()

    def give(self, worker: Worker) -> None:
        """Let one wait."""
        with self._lock:
            if not self._closed:
                self._idle.append(worker)
                return
        worker.close()

    def close(self) -> None:
        """End those that wait, and those at work when they are done, until they are opened again."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for worker in idle:
            worker.close()


_pools: weakref.WeakSet[WorkerPool] = weakref.WeakSet()


class ProcessLoader:
    """Works in a process of its own."""

    def __init__(self, meter: WaitMeter, workers: WorkerPool, stop: threading.Event) -> None:
        self._meter = meter
        self._workers = workers
        self._stop = stop
        self._worker: Worker | None = workers.take()

    def load(self, job: Job) -> Loaded:
        """Have a part fetched and parsed."""
        if self._stop.is_set():
            raise StoppedError
        if self._worker is None:
            self._worker = self._workers.take()
        worker, self._worker = self._worker, None
        began = time.perf_counter()
        try:
            answer, memory = worker.load(job.part, self._stop)
        except BaseException:
            worker.close()
            raise
        self._worker = worker
        job.fetched = began + answer.fetch_s
        self._meter.add("fetch", answer.fetch_s)
        self._meter.add("parse", answer.parse_s)
        self._meter.add_cpu(answer.cpu_s)
        if answer.error is not None:
            raise answer.error
        return Loaded(columns_of(answer, memory), answer.bad, answer.first_bad)

    def close(self) -> None:
        """Let the process wait for the next epoch."""
        if self._worker is not None:
            self._workers.give(self._worker)
            self._worker = None
