"""`Prefetcher`: loads parts in several threads and returns them in order.

A reader is a thread that fetches a part and then parses it. There may be many readers, because
waiting for storage is cheap; but only as many parse in parallel as there are processors, and a
fetched part waits in its reader. So the memory is bounded without a queue between the two stages.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from eai_notebook.errors import EaiError
from eai_notebook.io.memory.alignment import rows_in
from eai_notebook.io.pipeline.wait_meter import WaitInterval, WaitMeter
from eai_notebook.io.sources.retry import stop_with, with_retries

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from eai_notebook.io.part import Loaded, Part

POLL_S = 0.1
"""Seconds between checks whether the epoch was closed."""


def processors() -> int:
    """Return the number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_parsing = threading.BoundedSemaphore(processors())


@dataclass
class Job:
    """A part that is being loaded: when it was fetched, and the result."""

    index: int
    part: Part
    fetched: float = 0.0
    result: Loaded | BaseException | None = None
    done: threading.Event = field(default_factory=threading.Event)


class PartLoader(Protocol):
    """Loads parts, in a thread or in a process."""

    def load(self, job: Job) -> Loaded:
        """Fetch and parse the part; set `job.fetched`."""

    def close(self) -> None:
        """Release all resources."""


@dataclass
class ThreadLoader:
    """Loads in the reader's own thread: for parsers that release the interpreter lock."""

    meter: WaitMeter

    def load(self, job: Job) -> Loaded:
        """Fetch, wait for a processor, parse."""
        cpu = time.thread_time()
        with self.meter.work("fetch"):
            fetched = with_retries(job.part.fetch, job.part.path)
        job.fetched = time.perf_counter()
        with _parsing:
            self.meter.add_slot(time.perf_counter() - job.fetched)
            with self.meter.work("parse"):
                loaded = job.part.parse(fetched)
        self.meter.add_cpu(time.thread_time() - cpu)
        return loaded

    def close(self) -> None:
        """Do nothing: there are no resources."""


class Prefetcher:
    """Loads the parts at some indices ahead and returns them in this order.

    Parts at `spare` indices follow; each is loaded only when it is requested, because most epochs
    end before.

    Attributes:
        readers: The number of readers; may be changed at any time.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        indices: Iterator[int],
        spare: Iterator[int],
        make_loader: Callable[[], PartLoader],
        readers: int,
        width: int,
    ) -> None:
        self._parts = parts
        self._indices = indices
        self._spare = spare
        self._make_loader = make_loader
        # Not a `SimpleQueue`: if several threads wait in it with a timeout, one that just misses a
        # job may wait forever (CPython 3.11).
        self._jobs: queue.Queue[Job] = queue.Queue()
        self._ahead: deque[Job] = deque()
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._width = width
        self.readers = readers

    def next(self, stopped: threading.Event) -> tuple[int, Loaded, list[WaitInterval]] | None:
        """Return the next part's index, its rows, and the intervals of waiting; None if stopped.

        Raises:
            EaiError: The part cannot be loaded, or has changed since it was opened.
        """
        self._start_jobs()
        job = self._ahead.popleft()
        requested = time.perf_counter()
        while not job.done.wait(POLL_S):
            if stopped.is_set():
                return None
        received = time.perf_counter()
        if isinstance(job.result, BaseException):
            raise job.result
        assert job.result is not None  # noqa: S101 - `done` was set after it
        _check(job.part, job.result)
        fetched = min(max(job.fetched, requested), received)
        held = [
            WaitInterval("fetch", requested, fetched),
            WaitInterval("parse", fetched, received),
        ]
        return job.index, job.result, held

    def close(self) -> None:
        """Stop the readers after their current parts, without waiting for them."""
        self._stop.set()

    def _start_jobs(self) -> None:
        """Queue further parts, and start readers if there are too few."""
        while len(self._ahead) < self._width + self.readers:
            index = next(self._indices, None)
            if index is None and not self._ahead:
                index = next(self._spare, None)
            if index is None:
                break
            job = Job(index, self._parts[index])
            self._ahead.append(job)
            self._jobs.put(job)
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        wanted = min(self.readers, len(self._ahead))
        for number in range(len(self._threads), wanted):
            thread = threading.Thread(
                target=self._read, args=(number,), name=f"eai-read-{number}", daemon=True
            )
            self._threads.append(thread)
            thread.start()

    def _read(self, number: int) -> None:
        """Load parts until the prefetcher is closed or has fewer readers than this one's number."""
        loader: PartLoader | None = None
        stop_with(self._stop)
        try:
            while not self._stop.is_set() and number < self.readers:
                try:
                    job = self._jobs.get(timeout=POLL_S)
                except queue.Empty:
                    continue
                try:
                    if loader is None:
                        loader = self._make_loader()
                    job.result = loader.load(job)
                except BaseException as error:  # noqa: BLE001 - raised again in `next`
                    job.result = error
                job.done.set()
        finally:
            if loader is not None:
                loader.close()


def _check(part: Part, loaded: Loaded) -> None:
    rows = rows_in(loaded.columns) + loaded.bad
    if rows != part.rows:
        raise EaiError(
            f"{part.name} has {rows:,} rows, but {part.rows:,} were counted when it was opened",
            "do not change the files while they are read",
            code="file-changed",
        )
