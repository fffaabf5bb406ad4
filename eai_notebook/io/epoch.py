"""One pass over a rank's rows: read, parse, shuffle and batch ahead of the training step.

Stages and their queues: chunks are read and parsed by a few threads, always some chunks
ahead; one more thread mixes the parsed rows and cuts batches, which wait in a bounded queue.
All the heavy work releases the interpreter, so threads are enough, and nothing is copied
between processes.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from eai_notebook.errors import EaiError
from eai_notebook.io.compiled import compiled
from eai_notebook.io.load import OnError, load
from eai_notebook.io.parse import Rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from eai_notebook.io.ranges import Chunk
    from eai_notebook.io.schema import ClickSchema

WINDOW: Final = 16
"""Chunks whose rows are mixed: about 80,000 Criteo rows."""

READERS: Final = 2
"""Threads that read and parse: one waits for storage while the other parses."""

QUEUE: Final = 4
"""Batches kept ready."""

_ALIGNMENT: Final = 64  # TensorFlow takes memory over without a copy only from here on
_POLL: Final = 0.1  # seconds between looks at whether anyone still wants batches


class ClosedError(EaiError):
    """A batch was asked of an epoch that is over."""

    def __init__(self) -> None:
        super().__init__(
            "this loop over the data is over, another one may have begun",
            "open the files a second time to read them in two loops at once",
        )


@dataclass(frozen=True)
class Plan:
    """What a pass delivers: the same plan and epoch number give the same batches."""

    chunks: Sequence[Chunk]
    schema: ClickSchema
    batch_size: int
    steps: int
    shuffle: bool
    seed: int
    rank: int
    on_error: OnError


class Epoch:
    """The batches of one epoch, made ahead by threads that end with it.

    Attributes:
        cpu_seconds: Processor time the threads have used so far.
        taken: Batches delivered so far.
    """

    def __init__(self, plan: Plan, number: int) -> None:
        self._plan = plan
        self._rng = np.random.default_rng([plan.seed, plan.rank, number])
        self._ready: queue.Queue[Rows | BaseException] = queue.Queue(QUEUE)
        self._stop = threading.Event()
        self.taken = 0
        self.cpu_seconds = 0.0
        self._thread = threading.Thread(target=self._run, name="eai-input", daemon=True)
        self._thread.start()

    def next(self) -> Rows:
        """Return the next batch, waiting for it if need be.

        Raises:
            ClosedError: The epoch was closed, or all its batches were taken.
            EaiError: A row or a file is bad.
        """
        if self.taken == self._plan.steps:
            raise ClosedError
        while True:
            try:
                item = self._ready.get(timeout=_POLL)
                break
            except queue.Empty:
                if self._thread.is_alive() or not self._ready.empty():
                    continue
                raise ClosedError from None
        if isinstance(item, BaseException):
            self.close()
            raise item
        self.taken += 1
        return item

    def close(self) -> None:
        """Let the threads end; batches not taken are lost."""
        self._stop.set()

    def _run(self) -> None:
        began = time.thread_time()
        try:
            for batch in self._batches():
                if not self._put(batch):
                    return
        except BaseException as error:  # noqa: BLE001 - given to whoever waits
            self._put(error)
        finally:
            self.cpu_seconds += time.thread_time() - began

    def _put(self, item: Rows | BaseException) -> bool:
        """Wait for room; return False when nobody wants batches any more."""
        while not self._stop.is_set():
            try:
                self._ready.put(item, timeout=_POLL)
            except queue.Full:
                continue
            return True
        return False

    def _batches(self) -> Iterator[Rows]:
        plan = self._plan
        made = 0
        rest: list[Rows] = []
        for window in self._windows():
            rows = concatenate(rest + window)
            order = self._rng.permutation(len(rows)) if plan.shuffle else np.arange(len(rows))
            whole = len(rows) // plan.batch_size * plan.batch_size
            for begin in range(0, whole, plan.batch_size):
                yield take(rows, order[begin : begin + plan.batch_size])
                made += 1
                if made == plan.steps:
                    return
            rest = [take(rows, order[whole:])]
        if made == plan.steps - 1 and rest and len(rest[0]):
            yield rest[0]  # a plan that keeps the remainder counts it as a step
            made += 1
        if made != plan.steps:
            raise EaiError(
                f"the input ended after {made} of {plan.steps} steps",
                "do not change the files while they are read",
            )

    def _windows(self) -> Iterator[list[Rows]]:
        """Yield the rows of a window of chunks at a time; the next ones are being parsed."""
        plan = self._plan
        number = len(plan.chunks)
        order = self._rng.permutation(number) if plan.shuffle else np.arange(number)
        width = WINDOW if plan.shuffle else 1
        pool = ThreadPoolExecutor(READERS, thread_name_prefix="eai-read")
        try:
            ahead: deque[Future[Rows]] = deque()
            waiting = iter(order)
            window: list[Rows] = []
            while True:
                while len(ahead) < width + READERS:
                    index = next(waiting, None)
                    if index is None:
                        break
                    ahead.append(pool.submit(self._load, plan.chunks[index]))
                if not ahead:
                    break
                window.append(ahead.popleft().result())
                if len(window) == width:
                    yield window
                    window = []
            if window:
                yield window
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _load(self, chunk: Chunk) -> Rows:
        began = time.thread_time()
        rows = load(chunk, self._plan.schema, self._plan.on_error)
        self.cpu_seconds += time.thread_time() - began
        return rows


def concatenate(parts: Sequence[Rows]) -> Rows:
    """Return all rows of `parts` as one."""
    if len(parts) == 1:
        return parts[0]
    return Rows(
        np.concatenate([part.numbers for part in parts]),
        np.concatenate([part.ids for part in parts]),
        np.concatenate([part.labels for part in parts]),
    )


def take(rows: Rows, order: NDArray[np.int64]) -> Rows:
    """Return the rows at `order`, in fresh memory that TensorFlow may keep."""
    chosen = Rows(
        _aligned(len(order), rows.numbers.shape[1], np.float32),
        _aligned(len(order), rows.ids.shape[1], np.int32),
        _aligned(len(order), 1, np.float32),
    )
    _gather(rows.numbers, rows.ids, rows.labels, order, chosen.numbers, chosen.ids, chosen.labels)
    return chosen


def warm_up() -> None:
    """Compile now, not within the first step."""
    rows = Rows(np.zeros((1, 1), np.float32), np.zeros((1, 1), np.int32), np.zeros((1, 1), "f4"))
    take(rows, np.zeros(1, np.int64))


def _aligned(rows: int, columns: int, dtype: type[np.generic]) -> NDArray[Any]:
    size = rows * columns * np.dtype(dtype).itemsize
    memory = np.empty(size + _ALIGNMENT, np.uint8)
    begin = -memory.ctypes.data % _ALIGNMENT
    return memory[begin : begin + size].view(dtype).reshape(rows, columns)


@compiled
def _gather(
    numbers: NDArray[np.float32],
    ids: NDArray[np.int32],
    labels: NDArray[np.float32],
    order: NDArray[np.int64],
    out_numbers: NDArray[np.float32],
    out_ids: NDArray[np.int32],
    out_labels: NDArray[np.float32],
) -> None:
    for row in range(len(order)):
        source = order[row]
        # Loops, not slices: compiled eight times as fast, and twice as fast to run.
        for column in range(numbers.shape[1]):
            out_numbers[row, column] = numbers[source, column]
        for column in range(ids.shape[1]):
            out_ids[row, column] = ids[source, column]
        for column in range(labels.shape[1]):
            out_labels[row, column] = labels[source, column]
