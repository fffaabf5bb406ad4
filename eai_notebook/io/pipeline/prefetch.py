"""Prefetch parts in several threads and return them in order.

A reader is a thread that fetches one part and then parses it. While it waits for storage it
costs nothing, so there may be many; parsing takes a processor, so no more parse at once than
there are processors, and a fetched part waits for its turn in its reader's hands. That
bounds what lies in memory without a queue between the two.
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
"""Seconds between looks at whether anyone still wants what is read."""


def processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_parsing = threading.BoundedSemaphore(processors())


@dataclass
class Job:
    """A part on its way: when it was fetched, and what came of it."""

    index: int
    part: Part
    fetched: float = 0.0
    result: Loaded | BaseException | None = None
    done: threading.Event = field(default_factory=threading.Event)


class PartLoader(Protocol):
    """Where a reader works."""

    def load(self, job: Job) -> Loaded:
        """Fetch and parse; notes in the job when it was fetched."""

    def close(self) -> None:
        """Leave nothing behind."""


@dataclass
class ThreadLoader:
    """Works in the reader's own thread: for what leaves the interpreter alone."""

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
        """There is nothing to leave behind."""


class Prefetcher:
    """The parts at some indices, loaded ahead, in the order in which they were asked for.

    Those at `spare` indices follow, each loaded when it is asked for: most epochs end before.

    Attributes:
        readers: How many read at once; may be changed under way.
        ahead: How many parts may be loaded or on their way.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        indices: Iterator[int],
        spare: Iterator[int],
        desk: Callable[[], PartLoader],
        readers: int,
        width: int,
    ) -> None:
        self._parts = parts
        self._indices = indices
        self._spare = spare
        self._desk = desk
        # No `SimpleQueue`: of several threads that wait in it with a timeout, one that misses
        # a job by a moment may wait for ever (CPython 3.11).
        self._jobs: queue.Queue[Job] = queue.Queue()
        self._ahead: deque[Job] = deque()
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._width = width
        self.readers = readers

    def next(self, stopped: threading.Event) -> tuple[int, Loaded, list[WaitInterval]] | None:
        """Return the next part's index, its rows, and what it was waited for; None if stopped.

        Raises:
            EaiError: It cannot be fetched, or holds other rows than when it was opened.
        """
        self._top_up()
        job = self._ahead.popleft()
        asked = time.perf_counter()
        while not job.done.wait(POLL_S):
            if stopped.is_set():
                return None
        got = time.perf_counter()
        if isinstance(job.result, BaseException):
            raise job.result
        assert job.result is not None  # noqa: S101 - done means that there is one
        _check(job.part, job.result)
        fetched = min(max(job.fetched, asked), got)
        held = [WaitInterval("fetch", asked, fetched), WaitInterval("parse", fetched, got)]
        return job.index, job.result, held

    def close(self) -> None:
        """Let the readers end after what they are at; nobody waits for them."""
        self._stop.set()

    def _top_up(self) -> None:
        """Ask for more parts, and for more readers where there are too few."""
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
        for place in range(len(self._threads), wanted):
            thread = threading.Thread(
                target=self._read, args=(place,), name=f"eai-read-{place}", daemon=True
            )
            self._threads.append(thread)
            thread.start()

    def _read(self, place: int) -> None:
        """Work on jobs until nobody wants them, or until there are fewer readers."""
        desk: PartLoader | None = None
        stop_with(self._stop)
        try:
            while not self._stop.is_set() and place < self.readers:
                try:
                    job = self._jobs.get(timeout=POLL_S)
                except queue.Empty:
                    continue
                try:
                    if desk is None:
                        desk = self._desk()
                    job.result = desk.load(job)
                except BaseException as error:  # noqa: BLE001 - given to whoever waits
                    job.result = error
                job.done.set()
        finally:
            if desk is not None:
                desk.close()


def _check(part: Part, loaded: Loaded) -> None:
    rows = rows_in(loaded.columns) + loaded.bad
    if rows != part.rows:
        raise EaiError(
            f"{part.name} holds {rows:,} rows, {part.rows:,} were counted when it was opened",
            "do not change the files while they are read",
            code="file-changed",
        )
