"""Tune the number of readers and of queued batches: as few as hide the input.

Both grow while steps wait for their data and memory allows, and shrink again when none has
waited for long. A size that was too small once is not tried again soon.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import psutil

from eai_notebook.io.pipeline.prefetch import processors
from eai_notebook.io.pipeline.wait_meter import STAGES
from eai_notebook.io.sources.storage import scheme_of

if TYPE_CHECKING:
    from eai_notebook.io.pipeline.epoch_plan import Plan, Size
    from eai_notebook.io.pipeline.wait_meter import WaitMeter

READERS: Final = 2
"""At the beginning: one waits for storage while the other is parsed."""

READERS_FAR: Final = 8
"""At the beginning where there is a network between: a reader mostly waits."""

QUEUE: Final = 4
"""Batches kept ready at the beginning."""

MOST_READERS: Final = 32
MOST_QUEUE: Final = 64

EXPOSED: Final = 0.002
"""The share of time that may be spent waiting before something is done about it."""

LOOK_S: Final = 0.2
CALM_S: Final = 10.0
"""Seconds without a wait after which less is tried."""

_MEMORY: Final = 0.05  # of what is free, for what is read ahead


@dataclass
class AdaptiveSize:
    """One size: between its least, which is learnt, and its most."""

    size: int
    most: int
    fixed: bool = False
    least: int = 1
    _tried: int = 0

    @classmethod
    def of(cls, wanted: Size, first: int, most: int) -> AdaptiveSize:
        """Return the dial of an option: ``"auto"``, or a size that stays."""
        return cls(first, most) if wanted == "auto" else cls(wanted, wanted, fixed=True)

    def up(self, most: int) -> None:
        """Take twice as many, or go back to what was enough."""
        if self.fixed:
            return
        if self._tried:
            # One fewer was too few.
            self.least, self.size, self._tried = self._tried, self._tried, 0
            return
        self.size = max(min(self.size * 2, self.most, most), self.size)

    def down(self) -> None:
        """Try one fewer, if that was not too few before."""
        if not self.fixed and self.size > self.least:
            self._tried = self.size
            self.size -= 1


@dataclass
class ReaderAutotune:
    """The sizes of some data, kept from epoch to epoch.

    `look` is called with each batch, by the thread that makes it: to ask how much memory there is
    takes longer than to hand a batch over.

    Attributes:
        plan: What is read.
        meter: What was waited for.
        readers: Parts fetched or parsed at once.
        queue: Batches kept ready.
    """

    plan: Plan
    meter: WaitMeter
    readers: AdaptiveSize = field(init=False)
    queue: AdaptiveSize = field(init=False)
    _looked: float = 0.0
    _calm: float = 0.0
    _fetch: float = 0.0
    _waited: float = 0.0

    def __post_init__(self) -> None:
        far = any(scheme_of(part.path) for part in self.plan.source.parts[:1])
        first = READERS_FAR if far else READERS
        self.readers = AdaptiveSize.of(self.plan.readers, first, MOST_READERS)
        self.queue = AdaptiveSize.of(self.plan.queue, QUEUE, MOST_QUEUE)
        row = self.plan.source.row_bytes
        parts = max(len(self.plan.source.parts), 1)
        self._part_bytes = max(row * self.plan.source.rows // parts, 1)
        self._batch_bytes = max(row * self.plan.batch_size, 1)

    def begin(self, now: float) -> None:
        """Begin an epoch: time between two epochs is nobody's wait."""
        self._looked = now
        self._fetch, self._waited = self._sums()

    def look(self, now: float) -> None:
        """Set the sizes after what was waited for since the last look."""
        passed = now - self._looked
        if passed < LOOK_S:
            return
        fetch, waited = self._sums()
        fetched, exposed = fetch - self._fetch, waited - self._waited
        self._looked, self._fetch, self._waited = now, fetch, waited
        if exposed > EXPOSED * passed:
            self._calm = 0.0
            self._grow(by_fetching=2 * fetched > exposed)
            return
        self._calm += passed
        if self._calm >= CALM_S:
            self._calm = 0.0
            self.readers.down()
            self.queue.down()

    def _grow(self, *, by_fetching: bool) -> None:
        room = int(psutil.virtual_memory().available * _MEMORY)
        # More that parse at once than there are processors would only take turns.
        most = MOST_READERS if by_fetching else max(2 * processors(), READERS)
        self.readers.up(min(most, room // self._part_bytes))
        self.queue.up(room // self._batch_bytes)

    def _sums(self) -> tuple[float, float]:
        waited = self.meter.waited
        return waited["fetch"], sum(waited[stage] for stage in STAGES)
