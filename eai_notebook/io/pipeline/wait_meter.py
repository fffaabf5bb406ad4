"""Count reading costs and waiting times by stage, in seconds.

Stages work beside each other, so their work says nothing about what the step waited for. Each
batch carries when which stage was being waited for while it was made; the part of this that
lies within the step's own wait is what that stage has cost the step.
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
    """Time in which the next batch was held up by a stage: `time.perf_counter` seconds."""

    stage: str
    begin: float
    end: float


@dataclass
class WaitMeter:
    """Sums over the life of some data; stages run in several threads.

    Attributes:
        waited: Seconds the step was blocked, by what it waited for; ``hand_over`` is what
            no stage explains, such as waking up.
        worked: Seconds of work in each stage, summed over threads.
        full_s: Seconds in which mixing was held up because enough batches were ready.
        slot_s: Seconds in which fetched parts waited for a processor to parse them.
        cpu_s: Processor seconds of all readers.
        batches: Batches delivered.
        depth: Batches that were ready when the last one was asked for.
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
        """Book the time within to a stage's work."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.add(stage, time.perf_counter() - began)

    def add(self, stage: str, seconds: float) -> None:
        """Book work of a stage."""
        with self._lock:
            self.worked[stage] += seconds

    def add_cpu(self, seconds: float) -> None:
        """Book processor time of a reader."""
        with self._lock:
            self.cpu_s += seconds

    def add_slot(self, seconds: float) -> None:
        """Book time that a fetched part waited for a processor."""
        with self._lock:
            self.slot_s += seconds

    def delivered(self, asked: float, got: float, made: Sequence[WaitInterval], depth: int) -> None:
        """Book the wait for a batch, from `asked` to `got`, to what it was for."""
        left = got - asked
        for stretch in made:
            shared = min(got, stretch.end) - max(asked, stretch.begin)
            if shared > 0:
                self.waited[stretch.stage] += shared
                left -= shared
        self.waited["hand_over"] += max(left, 0.0)
        self.batches += 1
        self.depth = depth
        messages.set_queue_depth(depth)
