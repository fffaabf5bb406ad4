"""`WorkerPool`: reader processes for parts whose parsing holds the interpreter lock.

Threads would compete with the training loop for the lock. Processes are kept between epochs. A
process that dies is an error that names it and its file; nothing is retried silently.
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
_END_S: Final = 1.0  # for a process to end by itself, before it is killed


class StoppedError(Exception):
    """The epoch was closed while a part was being loaded."""


class Worker:
    """A reader process; used by one thread at a time.

    Attributes:
        pid: The process id, for messages.
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
                # Jupyter interrupts a whole session; that must not end a reader.
                start_new_session=True,
            )
        os.close(ends)
        self._link = ours
        self.pid = self._process.pid
        send(self._link, cloudpickle.dumps(sys.path))

    def load(self, part: Part, stop: threading.Event) -> tuple[WorkerReply, list[int]]:
        """Return the reply for a part, and the descriptors of its memory.

        Raises:
            EaiError: The process has died.
            StoppedError: `stop` was set.
        """
        try:
            send(self._link, cloudpickle.dumps(part))
            while not select.select([self._link], [], [], _POLL_S)[0]:
                if stop.is_set():
                    raise StoppedError
            message, memory = receive_memory(self._link)
        except (EOFError, BrokenPipeError, ConnectionResetError):
            raise EaiError(
                f"reader process {self.pid} {self._exit_reason()} while it read {part.name}",
                "find out why it ended (often too little memory), then run the cell again",
                code="reader-process-died",
            ) from None
        reply: WorkerReply = pickle.loads(message)  # noqa: S301 - from our own process
        return reply, memory

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

    def _exit_reason(self) -> str:
        """Return how the process ended."""
        try:
            code = self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            return "does not reply"
        if code < 0:
            return f"was ended by {signal.Signals(-code).name}"
        return f"ended with exit code {code}"


class WorkerPool:
    """The idle reader processes of a data set.

    A new pool closes the older ones: a cell that is run repeatedly must not accumulate processes,
    and older processes may have older versions of the user's functions.
    """

    def __init__(self) -> None:
        for older in list(_pools):
            older.close()
        _pools.add(self)
        self._idle: list[Worker] = []
        self._lock = threading.Lock()
        self._closed = False

    def open(self) -> None:
        """Allow idle processes again after `close`."""
        with self._lock:
            self._closed = False

    def acquire(self) -> Worker:
        """Return an idle process, or start one."""
        with self._lock:
            if self._idle:
                return self._idle.pop()
        return Worker()

    def release(self, worker: Worker) -> None:
        """Return a process to the pool; end it if the pool is closed."""
        with self._lock:
            if not self._closed:
                self._idle.append(worker)
                return
        worker.close()

    def close(self) -> None:
        """End idle processes now, and busy ones when they are released."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for worker in idle:
            worker.close()


_pools: weakref.WeakSet[WorkerPool] = weakref.WeakSet()


class ProcessLoader:
    """Loads parts in a reader process: for parsers that hold the interpreter lock."""

    def __init__(self, meter: WaitMeter, workers: WorkerPool, stop: threading.Event) -> None:
        self._meter = meter
        self._workers = workers
        self._stop = stop
        self._worker: Worker | None = workers.acquire()

    def load(self, job: Job) -> Loaded:
        """Load a part in the process."""
        if self._stop.is_set():
            raise StoppedError
        if self._worker is None:
            self._worker = self._workers.acquire()
        worker, self._worker = self._worker, None
        began = time.perf_counter()
        try:
            reply, memory = worker.load(job.part, self._stop)
        except BaseException:
            worker.close()
            raise
        self._worker = worker
        job.fetched = began + reply.fetch_s
        self._meter.add("fetch", reply.fetch_s)
        self._meter.add("parse", reply.parse_s)
        self._meter.add_cpu(reply.cpu_s)
        if reply.error is not None:
            raise reply.error
        return Loaded(columns_of(reply, memory), reply.bad, reply.first_bad)

    def close(self) -> None:
        """Return the process to the pool for the next epoch."""
        if self._worker is not None:
            self._workers.release(self._worker)
            self._worker = None
