"""One epoch of a rank's rows: read, parse, shuffle and batch ahead of the training step.

Readers load parts, always some ahead; one more thread mixes their rows and cuts batches, which
wait in a bounded queue. Each of them works while the others wait.
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
from eai_notebook.io.memory.alignment import nothing, rows_in
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
"""The column that says which rows only fill up a batch: 1 or 0."""


class ClosedError(EaiError):
    """A batch was asked of an epoch that is over."""

    def __init__(self) -> None:
        super().__init__(
            "this loop over the data is over, another one may have begun",
            "open the files a second time to read them in two loops at once",
            code="loop-over",
        )


class ReadyBatch(NamedTuple):
    """A batch, and what held it up while it was made."""

    batch: Any
    held: list[WaitInterval]


class Epoch:
    """The batches of one epoch from `first` on, made ahead by threads that end with it.

    `finish` makes of a batch's columns what is handed over.

    Attributes:
        first: The step it began with.
        taken: Batches delivered so far, those before `first` counted.
        repeats: Whether rows are read again because too few were left.
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
        self.first = self.taken = first
        self.repeats = False
        sizing.begin(time.perf_counter())
        self._thread = threading.Thread(target=self._run, name="eai-input", daemon=True)
        self._thread.start()

    def next(self) -> Any:
        """Return the next batch, waiting for it if need be.

        Raises:
            ClosedError: The epoch was closed, or all its batches were taken.
            EaiError: A row or a file is bad.
        """
        if self.taken == self._plan.steps:
            raise ClosedError
        asked, depth = time.perf_counter(), self._ready.qsize()
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
        self._meter.delivered(asked, time.perf_counter(), item.held, depth)
        self.taken += 1
        return item.batch

    def close(self) -> None:
        """Let the threads end; batches not taken are lost."""
        self._stop.set()

    def _run(self) -> None:
        began = time.thread_time()
        try:
            for columns in itertools.islice(self._batches(), self._plan.steps - self.taken):
                if not self._put(ReadyBatch(self._finish(columns), self._held)):
                    return
                self._held = []
                self._sizing.look(time.perf_counter())
                self._meter.add_cpu(-began + (began := time.thread_time()))
        except BaseException as error:  # noqa: BLE001 - given to whoever waits
            self._put(error)
        finally:
            self._meter.add_cpu(time.thread_time() - began)

    def _put(self, item: ReadyBatch | BaseException) -> bool:
        """Wait for room; return False when nobody wants batches any more."""
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
        """Yield the batches from the first one on; those before it are not made."""
        # Where rows may be left out, only reading tells how many came before.
        exact = self._plan.on_error == "raise"
        none = Start(0, np.empty((0, 2), np.int64), self.taken)
        start = self._order.start(self.taken) if exact and self.taken else none
        parts = self._plan.source.parts_at(self._order.epoch)
        old = sorted(set(start.rest[:, 0].tolist()))
        needed = self._order.last_window + 1
        indices = itertools.chain(old, self._indices(range(start.window, needed)))
        more = range(needed, self._order.windows) if self._order.once else itertools.count(needed)
        spare = self._indices(more)
        readers = self._sizing.readers.size
        reading = Prefetcher(parts, indices, spare, self._desk, readers, self._order.width)
        try:
            yield from itertools.islice(self._mixed(reading, start, old), start.passed, None)
        finally:
            reading.close()

    def _mixed(self, reading: Prefetcher, start: Start, old: list[int]) -> Iterator[Columns]:
        """Yield the batches from a window on, first what was left over before it."""
        plan, size = self._plan, self._plan.batch_size
        rest = [self._left_over(reading, start.rest, old)]
        good = rows_in(rest[0])
        for window in itertools.count(start.window):
            pieces = [*rest, *self._loaded(reading, len(self._order.parts(window)))]
            if self._stop.is_set():
                return
            good += sum(rows_in(piece) for piece in pieces[len(rest) :])
            pile = RowView(pieces)
            order = self._order.mixed(window, pile.rows)
            whole = pile.rows // size * size
            for begin in range(0, whole, size):
                yield self._cut(pile, order, begin)
            # (Rows that keep their order wait where they lie: to copy them for each part that is
            # smaller than a batch costs more than to make the batch of them.)
            rest = [pile.take(order[whole:])] if plan.shuffle else pile.rest(whole)
            if (window + 1) % self._order.windows:
                continue
            # All parts were read. What comes now is for steps that they do not fill.
            left = RowView(rest)
            if plan.whole:
                if left.rows:
                    yield left.slice(0, left.rows)
                return
            if plan.uneven == "pad":
                yield from self._padding(left if left.rows else pile, left.rows)
            if good == 0:
                raise EaiError(
                    "there is no good row in the input",
                    "check its format",
                    code="too-many-bad-rows",
                )
            self.repeats = True

    def _padding(self, pile: RowView, count: int) -> Iterator[Columns]:
        """Yield for ever batches that count for nothing, but for the first `count` rows."""
        size = self._plan.batch_size
        order = np.arange(size) % pile.rows
        while True:
            batch = self._weighted(pile.take(order))
            batch[WEIGHT][count:] = 0
            yield batch
            count = 0

    def _cut(self, pile: RowView, order: NDArray[np.int64], begin: int) -> Columns:
        """Return the batch whose rows stand in `order` from `begin` on."""
        end = begin + self._plan.batch_size
        if self._plan.shuffle:
            picked = functools.partial(pile.take, order[begin:end])
        else:
            picked = functools.partial(pile.slice, begin, end)
        return self._weighted(self._timed(picked))

    def _weighted(self, batch: Columns) -> Columns:
        if self._plan.uneven == "pad" and not self._plan.whole:
            batch[WEIGHT] = np.ones(rows_in(batch), np.float32)
        return batch

    def _timed(self, work: Callable[[], Columns]) -> Columns:
        """Return what `work` does, booked to shuffling."""
        began = time.perf_counter()
        done = work()
        ended = time.perf_counter()
        self._held.append(WaitInterval("shuffle", began, ended))
        self._meter.add("shuffle", ended - began)
        return done

    def _left_over(self, reading: Prefetcher, rest: NDArray[np.int64], old: list[int]) -> Columns:
        """Return the rows that windows before the first one have left."""
        empty = nothing(self._plan.source.spec)
        if not len(rest):
            return empty
        pieces = dict(zip(old, self._loaded(reading, len(old)), strict=False))
        if self._stop.is_set():
            return empty
        sizes = {part: rows_in(piece) for part, piece in pieces.items()}
        begins = dict(zip(sizes, np.cumsum([0, *sizes.values()]).tolist(), strict=False))
        places = np.array([begins[part] + place for part, place in rest.tolist()], np.int64)
        return RowView(list(pieces.values())).take(places)

    def _loaded(self, reading: Prefetcher, count: int) -> Iterator[Columns]:
        """Yield the good rows of the next parts, as many as are there until one stops."""
        for _ in range(count):
            reading.readers = self._sizing.readers.size
            found = reading.next(self._stop)
            if found is None:
                return
            index, loaded, held = found
            self._held += held
            self._bad.note(index, loaded)
            yield loaded.columns

    def _indices(self, windows: Iterable[int]) -> Iterator[int]:
        """Yield the parts of some windows, which may be of several laps."""
        for number in windows:
            yield from self._order.parts(number).tolist()

    def _desk(self) -> PartLoader:
        if self._plan.source.holds_gil:
            return ProcessLoader(self._meter, self._workers, self._stop)
        return ThreadLoader(self._meter)
