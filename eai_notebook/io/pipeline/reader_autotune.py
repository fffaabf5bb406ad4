"""`ReaderAutotune`: sets the number of readers and of queued batches, as few as hide the input.

Both grow while steps wait for data and memory allows it, and shrink when no step has waited for some
time. A size that proved too small is not tried again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import psutil

from eai_notebook.io.pipeline.prefetch import processors
from eai_notebook.io.pipeline.wait_meter import STAGES
from eai_notebook.io.sources.urls import scheme_of

if TYPE_CHECKING:
    from eai_notebook.io.pipeline.epoch_plan import Plan, Size
    from eai_notebook.io.pipeline.wait_meter import WaitMeter

READERS: Final = 2
"""At first: one waits for storage while the other parses."""

REMOTE_READERS: Final = 8
"""At first, for remote files: a reader waits most of the time."""

QUEUE: Final = 4
"""Queued batches at first."""

MAX_READERS: Final = 32
MAX_QUEUE: Final = 64

MAX_WAIT_SHARE: Final = 0.002
"""The share of time that steps may wait; beyond it the sizes grow."""

INTERVAL_S: Final = 0.2
CALM_S: Final = 10.0
"""Seconds without a wait after which smaller sizes are tried."""

_MEMORY: Final = 0.05  # the share of the free memory for data that is read ahead


@dataclass
class AdaptiveSize:
    """A size that adapts between a minimum, which is learned, and a maximum."""

    size: int
    maximum: int
    fixed: bool = False
    minimum: int = 1
    _before: int = 0

    @classmethod
    def of(cls, option: Size, first: int, maximum: int) -> AdaptiveSize:
        """Return the size for an option: ``"auto"``, or a fixed number."""
        return cls(first, maximum) if option == "auto" else cls(option, option, fixed=True)

    def up(self, limit: int) -> None:
        """Double the size up to a limit, or undo the last `down`."""
        if self.fixed:
            return
        if self._before:
            # The last `down` made the size too small.
            self.minimum, self.size, self._before = self._before, self._before, 0
            return
        self.size = max(min(self.size * 2, self.maximum, limit), self.size)

    def down(self) -> None:
        """Decrease the size by one, unless that was too small before."""
        if not self.fixed and self.size > self.minimum:
            self._before = self.size
            self.size -= 1


@dataclass
class ReaderAutotune:
    """The sizes of a data set's readers and queue, kept from epoch to epoch.

    The thread that makes batches calls `update` for each batch, not the training thread: to query
    the free memory takes longer than to deliver a batch.

    Attributes:
        plan: The epoch's plan.
        meter: What was waited for.
        readers: Parts that are fetched or parsed in parallel.
        queue: Batches that are prepared ahead.
    """

    plan: Plan
    meter: WaitMeter
    readers: AdaptiveSize = field(init=False)
    queue: AdaptiveSize = field(init=False)
    _updated: float = 0.0
    _calm: float = 0.0
    _fetch: float = 0.0
    _waited: float = 0.0

    def __post_init__(self) -> None:
        remote = any(scheme_of(part.path) for part in self.plan.source.parts[:1])
        first = REMOTE_READERS if remote else READERS
        self.readers = AdaptiveSize.of(self.plan.readers, first, MAX_READERS)
        self.queue = AdaptiveSize.of(self.plan.queue, QUEUE, MAX_QUEUE)
        row = self.plan.source.row_bytes
        parts = max(len(self.plan.source.parts), 1)
        self._part_bytes = max(row * self.plan.source.rows // parts, 1)
        self._batch_bytes = max(row * self.plan.batch_size, 1)

    def begin(self, now: float) -> None:
        """Begin an epoch: time between two epochs does not count as waiting."""
        self._updated = now
        self._fetch, self._waited = self._sums()

    def update(self, now: float) -> None:
        """Set the sizes after the waits since the last update."""
        passed = now - self._updated
        if passed < INTERVAL_S:
            return
        fetch, waited = self._sums()
        fetching, waiting = fetch - self._fetch, waited - self._waited
        self._updated, self._fetch, self._waited = now, fetch, waited
        if waiting > MAX_WAIT_SHARE * passed:
            self._calm = 0.0
            self._grow(by_fetching=2 * fetching > waiting)
            return
        self._calm += passed
        if self._calm >= CALM_S:
            self._calm = 0.0
            self.readers.down()
            self.queue.down()

    def _grow(self, *, by_fetching: bool) -> None:
        budget = int(psutil.virtual_memory().available * _MEMORY)
        # More parsers than processors would only compete.
        limit = MAX_READERS if by_fetching else max(2 * processors(), READERS)
        self.readers.up(min(limit, budget // self._part_bytes))
        self.queue.up(budget // self._batch_bytes)

    def _sums(self) -> tuple[float, float]:
        waited = self.meter.waited
        return waited["fetch"], sum(waited[stage] for stage in STAGES)
