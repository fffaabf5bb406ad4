"""`Epoch`: one epoch of a rank's rows, read, parsed, shuffled and batched ahead of the step.

Readers load parts ahead; another thread shuffles their rows and cuts batches, which wait in a bounded
queue. The stages work in parallel.
"""

from __future__ import annotations

import functools
import itertools
import queue
import threading
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from eai_notebook.errors import EaiError
from eai_notebook.io.memory.alignment import empty_columns, rows_in
from eai_notebook.io.pipeline.prefetch import POLL_S, PartLoader, Prefetcher, ThreadLoader
from eai_notebook.io.pipeline.row_gather import RowView
from eai_notebook.io.pipeline.shuffle_order import ShuffleOrder, Start
from eai_notebook.io.pipeline.wait_meter import WaitInterval, WaitMeter
from eai_notebook.io.pipeline.worker_pool import ProcessLoader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.typing import NDArray

    from eai_notebook.io.part import Columns
    from eai_notebook.io.pipeline.bad_rows import BadRows
    from eai_notebook.io.pipeline.epoch_plan import Plan
    from eai_notebook.io.pipeline.reader_autotune import ReaderAutotune
    from eai_notebook.io.pipeline.worker_pool import WorkerPool

WEIGHT: Final = "weight"
"""The column of sample weights: 1, or 0 for rows that only pad a batch."""


class ClosedError(EaiError):
    """A batch was requested from an epoch that has ended."""

    def __init__(self) -> None:
        super().__init__(
            "this loop over the data has ended; another one may have begun",
            "open the files a second time to read them in two loops at once",
            code="loop-over",
        )


class ReadyBatch(NamedTuple):
    """A batch, and the intervals in which its preparation waited for a stage."""

    batch: Any
    held: list[WaitInterval]


class Epoch:
    """The batches of one epoch from step `first` on, prepared ahead by threads that end with it.

    `finish` turns a batch's columns into the batch that `next` returns.

    Attributes:
        first: The first step.
        delivered: Batches delivered so far, including those before `first`.
        repeats: Whether rows are read again because too few were good.
    """

    def __init__(
        self,
        plan: Plan,
        number: int,
        first: int = 0,
        *,
        finish: Callable[[Columns], Any],
        meter: WaitMeter,
        bad: BadRows,
        sizing: ReaderAutotune,
        workers: WorkerPool,
    ) -> None:
        self._plan = plan
        self._order = ShuffleOrder(plan, number)
        self._finish = finish
        self._meter = meter
        self._bad = bad
        self._sizing = sizing
        self._workers = workers
        self._held: list[WaitInterval] = []
        self._ready: queue.Queue[ReadyBatch | BaseException] = queue.Queue(sizing.queue.size)
        self._stop = threading.Event()
        self.first = self.delivered = first
        self.repeats = False
        sizing.begin(time.perf_counter())
        self._thread = threading.Thread(target=self._run, name="eai-input", daemon=True)
        self._thread.start()

    def next(self) -> Any:
        """Return the next batch; waits until it is ready.

        Raises:
            ClosedError: The epoch was closed, or all its batches were delivered.
            EaiError: A row or a file is bad.
        """
        if self.delivered == self._plan.steps:
            raise ClosedError
        requested, depth = time.perf_counter(), self._ready.qsize()
        while True:
            try:
                item = self._ready.get(timeout=POLL_S)
                break
            except queue.Empty:
                if self._thread.is_alive() or not self._ready.empty():
                    continue
                raise ClosedError from None
        if isinstance(item, BaseException):
            self.close()
            raise item
        self._meter.delivered(requested, time.perf_counter(), item.held, depth)
        self.delivered += 1
        return item.batch

    def close(self) -> None:
        """Stop the threads; batches that were not delivered are lost."""
        self._stop.set()

    def _run(self) -> None:
        began = time.thread_time()
        try:
            for columns in itertools.islice(self._batches(), self._plan.steps - self.delivered):
                if not self._put(ReadyBatch(self._finish(columns), self._held)):
                    return
                self._held = []
                self._sizing.update(time.perf_counter())
                self._meter.add_cpu(-began + (began := time.thread_time()))
        except BaseException as error:  # noqa: BLE001 - raised again in `next`
            self._put(error)
        finally:
            self._meter.add_cpu(time.thread_time() - began)

    def _put(self, item: ReadyBatch | BaseException) -> bool:
        """Wait for a free slot in the queue; return False if the epoch was closed."""
        began = time.perf_counter()
        while not self._stop.is_set():
            self._ready.maxsize = self._sizing.queue.size
            try:
                self._ready.put(item, timeout=POLL_S)
            except queue.Full:
                continue
            self._meter.full_s += time.perf_counter() - began
            return True
        return False

    def _batches(self) -> Iterator[Columns]:
        """Yield the batches from the first one on; those before it are not prepared."""
        # If bad rows are skipped, the position of a step is known only after reading up to it.
        exact = self._plan.on_error == "raise"
        none = Start(0, np.empty((0, 2), np.int64), self.delivered)
        start = self._order.start(self.delivered) if exact and self.delivered else none
        parts = self._plan.source.parts_at(self._order.epoch)
        rest = sorted(set(start.rest[:, 0].tolist()))
        needed = self._order.last_window + 1
        indices = itertools.chain(rest, self._indices(range(start.window, needed)))
        more = range(needed, self._order.windows) if self._order.once else itertools.count(needed)
        spare = self._indices(more)
        readers = self._sizing.readers.size
        prefetcher = Prefetcher(
            parts, indices, spare, self._make_loader, readers, self._order.width
        )
        try:
            yield from itertools.islice(self._shuffled(prefetcher, start, rest), start.passed, None)
        finally:
            prefetcher.close()

    def _shuffled(
        self, prefetcher: Prefetcher, start: Start, rest_parts: list[int]
    ) -> Iterator[Columns]:
        """Yield the batches from a window on; rows left over from before come first."""
        plan, size = self._plan, self._plan.batch_size
        rest = [self._load_rest(prefetcher, start.rest, rest_parts)]
        good = rows_in(rest[0])
        for window in itertools.count(start.window):
            pieces = [*rest, *self._load_parts(prefetcher, len(self._order.parts(window)))]
            if self._stop.is_set():
                return
            good += sum(rows_in(piece) for piece in pieces[len(rest) :])
            view = RowView(pieces)
            order = self._order.permutation_of(window, view.rows)
            whole = view.rows // size * size
            for begin in range(0, whole, size):
                yield self._cut(view, order, begin)
            # (Without shuffling the rest is not copied: if parts are smaller than a batch, a copy for
            # each part would take longer than the batch.)
            rest = [view.gather(order[whole:])] if plan.shuffle else view.rest(whole)
            if (window + 1) % self._order.windows:
                continue
            # All parts were read: now come the steps that they do not fill.
            left = RowView(rest)
            if plan.whole:
                if left.rows:
                    yield left.slice(0, left.rows)
                return
            if plan.uneven == "pad":
                yield from self._padding(left if left.rows else view, left.rows)
            if good == 0:
                raise EaiError(
                    "all rows of the input are bad",
                    "check the format",
                    code="too-many-bad-rows",
                )
            self.repeats = True

    def _padding(self, view: RowView, count: int) -> Iterator[Columns]:
        """Yield endless batches of weight 0, except for the first `count` rows."""
        size = self._plan.batch_size
        order = np.arange(size) % view.rows
        while True:
            batch = self._weighted(view.gather(order))
            batch[WEIGHT][count:] = 0
            yield batch
            count = 0

    def _cut(self, view: RowView, order: NDArray[np.int64], begin: int) -> Columns:
        """Return the batch of the rows in `order` from index `begin` on."""
        end = begin + self._plan.batch_size
        if self._plan.shuffle:
            work = functools.partial(view.gather, order[begin:end])
        else:
            work = functools.partial(view.slice, begin, end)
        return self._weighted(self._timed(work))

    def _weighted(self, batch: Columns) -> Columns:
        if self._plan.uneven == "pad" and not self._plan.whole:
            batch[WEIGHT] = np.ones(rows_in(batch), np.float32)
        return batch

    def _timed(self, work: Callable[[], Columns]) -> Columns:
        """Return the result of `work`, and count its time as shuffling."""
        began = time.perf_counter()
        batch = work()
        ended = time.perf_counter()
        self._held.append(WaitInterval("shuffle", began, ended))
        self._meter.add("shuffle", ended - began)
        return batch

    def _load_rest(
        self, prefetcher: Prefetcher, rest: NDArray[np.int64], parts: list[int]
    ) -> Columns:
        """Return the rows left over from the windows before the first one."""
        empty = empty_columns(self._plan.source.spec)
        if not len(rest):
            return empty
        pieces = dict(zip(parts, self._load_parts(prefetcher, len(parts)), strict=False))
        if self._stop.is_set():
            return empty
        sizes = {part: rows_in(piece) for part, piece in pieces.items()}
        begins = dict(zip(sizes, np.cumsum([0, *sizes.values()]).tolist(), strict=False))
        rows = np.array([begins[part] + row for part, row in rest.tolist()], np.int64)
        return RowView(list(pieces.values())).gather(rows)

    def _load_parts(self, prefetcher: Prefetcher, count: int) -> Iterator[Columns]:
        """Yield the good rows of the next parts; stops early if the epoch was closed."""
        for _ in range(count):
            prefetcher.readers = self._sizing.readers.size
            result = prefetcher.next(self._stop)
            if result is None:
                return
            index, loaded, held = result
            self._held += held
            self._bad.add(index, loaded)
            yield loaded.columns

    def _indices(self, windows: Iterable[int]) -> Iterator[int]:
        """Yield the parts of some windows, over several laps if necessary."""
        for number in windows:
            yield from self._order.parts(number).tolist()

    def _make_loader(self) -> PartLoader:
        if self._plan.source.holds_gil:
            return ProcessLoader(self._meter, self._workers, self._stop)
        return ThreadLoader(self._meter)
