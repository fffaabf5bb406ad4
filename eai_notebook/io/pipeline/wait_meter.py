"""`WaitMeter`: seconds of work and of waiting, by stage of the input pipeline.

Stages work in parallel, so their work does not show what the step waited for. Each batch carries
the intervals in which its preparation waited for a stage; the overlap with the time in which the
step waited for the batch is what that stage has cost the step.
"""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from eai_notebook.telemetry import messages

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

STAGES: Final = ("fetch", "parse", "shuffle")
"""The stages before the queue of ready batches, in order."""


class WaitInterval(NamedTuple):
    """An interval in which the next batch waited for a stage: `time.perf_counter` seconds."""

    stage: str
    begin: float
    end: float


@dataclass
class WaitMeter:
    """Sums over the lifetime of a data set; safe to use from several threads.

    Attributes:
        waited: Seconds in which the step was blocked, by stage; ``hand_over`` is the rest, such as
            the time to wake up a thread.
        worked: Seconds of work in each stage, summed over threads.
        full_s: Seconds in which shuffling waited because the queue of batches was full.
        slot_s: Seconds in which fetched parts waited for a processor to parse them.
        cpu_s: Processor seconds of all readers.
        batches: Batches delivered.
        depth: Batches in the queue when the last one was requested.
    """

    waited: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys((*STAGES, "hand_over"), 0.0)
    )
    worked: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    full_s: float = 0.0
    slot_s: float = 0.0
    cpu_s: float = 0.0
    batches: int = 0
    depth: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def work(self, stage: str) -> Iterator[None]:
        """Add the time in this context to a stage's work."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.add(stage, time.perf_counter() - began)

    def add(self, stage: str, seconds: float) -> None:
        """Add work of a stage."""
        with self._lock:
            self.worked[stage] += seconds

    def add_cpu(self, seconds: float) -> None:
        """Add processor time of a reader."""
        with self._lock:
            self.cpu_s += seconds

    def add_slot(self, seconds: float) -> None:
        """Add time in which a fetched part waited for a processor."""
        with self._lock:
            self.slot_s += seconds

    def delivered(
        self, requested: float, received: float, held: Sequence[WaitInterval], depth: int
    ) -> None:
        """Divide the wait for a batch, from `requested` to `received`, among the stages."""
        rest = received - requested
        for interval in held:
            overlap = min(received, interval.end) - max(requested, interval.begin)
            if overlap > 0:
                self.waited[interval.stage] += overlap
                rest -= overlap
        self.waited["hand_over"] += max(rest, 0.0)
        self.batches += 1
        self.depth = depth
        messages.set_queue_depth(depth)
