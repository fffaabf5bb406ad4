"""Stall detector: find a cell that cannot go on, explain it, end it.

Ranks that have fallen silent are asked where they are. A rank in an exchange that a peer
will never join - the peer's cell is over, or it waits in another exchange - waits for
ever, and is ended at once with a sentence that says so. A rank in the middle of a
compiled step while a peer has left the training loop very likely does: it is named at
once, and ended after some patience. What may only be slow is left alone.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from eai_notebook.session.rank_sets import name_ranks
from eai_notebook.telemetry.messages import RunBegan, RunEnded, StackLocation, StepsDone

if TYPE_CHECKING:
    from collections.abc import Callable

    from eai_notebook.telemetry.messages import Message

QUIET_S = 4.0
"""How long all unfinished ranks must have been silent before they are asked."""

SURE_S = 4.0
"""How long a stall must last before it is called one: a peer may just be on its way."""

PATIENCE_S = 60.0
"""How long a stall that is likely, but not certain, may last."""


@dataclass(frozen=True)
class Stall:
    """Why a cell cannot go on, in one sentence; ``is_over`` once it should be ended."""

    why: str
    is_over: bool


class StallWatch:
    """Watches one cell on `ranks`; ``ask(ranks)`` makes ranks tell their whereabouts.

    ``patience`` is how long a likely stall may last, in seconds.
    """

    def __init__(
        self, ranks: list[int], ask: Callable[[list[int]], None], patience: float = PATIENCE_S
    ) -> None:
        self._ranks = ranks
        self._patience = patience
        self._ask = ask
        self._heard_at = self._asked_at = time.monotonic()
        self._where: dict[int, StackLocation] = {}
        self._steps: dict[int, int] = {}
        self._in_run: set[int] = set()
        self._stalled_since: float | None = None

    def record_activity(self, message: Message | None = None) -> None:
        """Take note that some rank is alive: it printed, or its clock said `message`."""
        if isinstance(message, StackLocation):
            self._where[message.rank] = message
            if message.steps is not None:
                self._steps[message.rank] = message.steps
            return
        self._heard_at = time.monotonic()
        self._where.clear()
        if isinstance(message, RunBegan):
            self._in_run.add(message.rank)
            self._steps[message.rank] = 0
        elif isinstance(message, StepsDone):
            self._steps[message.rank] = self._steps.get(message.rank, 0) + len(message.rows)
        elif isinstance(message, RunEnded):
            self._in_run.discard(message.rank)

    def look(self, unfinished: list[int]) -> Stall | None:
        """Return the stall that the cell on its `unfinished` ranks is in, if it is in one."""
        now = time.monotonic()
        if now - self._heard_at < QUIET_S:
            self._stalled_since = None
            return None
        if now - self._asked_at > QUIET_S / 2:
            self._asked_at = now
            self._ask(unfinished)
        if not self._is_stalled(unfinished):
            self._stalled_since = None
            return None
        self._stalled_since = self._stalled_since or now
        lasted = now - self._stalled_since
        if lasted < SURE_S:
            return None
        certain = all(self._where[rank].exchange for rank in unfinished)
        return Stall(self._sentence(unfinished), certain or lasted > self._patience)

    def _is_stalled(self, unfinished: list[int]) -> bool:
        """Whether all unfinished ranks wait for a peer, and not all for the same thing."""
        if any(rank not in self._where for rank in unfinished):
            return False
        left = len(unfinished) < len(self._ranks) or any(
            self._where[rank].exchange for rank in unfinished
        )
        waiting = all(self._waits(rank, left=left) for rank in unfinished)
        same = len(unfinished) == len(self._ranks) and len(set(map(self._place, unfinished))) == 1
        return waiting and not same

    def _waits(self, rank: int, *, left: bool) -> bool:
        """Whether `rank` is in an exchange, or in a step of a run that a peer has `left`."""
        where = self._where[rank]
        return where.exchange is not None or (left and where.compiled and rank in self._in_run)

    def _sentence(self, unfinished: list[int]) -> str:
        ended = [rank for rank in self._ranks if rank not in unfinished]
        told = [f"{name_ranks(ended)} ended the cell{self._after(ended)}"] if ended else []
        for place in sorted(set(map(self._place, unfinished))):
            there = [rank for rank in unfinished if self._place(rank) == place]
            told.append(f"{name_ranks(there)} wait{'s' * (len(there) == 1)} in {place}")
        return "; ".join(told)

    def _place(self, rank: int) -> str:
        where = self._where[rank]
        doing = where.exchange or "a training step"
        return f"{doing}{self._after([rank])}, line {where.line}: `{where.code[:80]}`"

    def _after(self, ranks: list[int]) -> str:
        steps = sorted({self._steps[rank] for rank in ranks if rank in self._steps})
        plural = "" if steps == [1] else "s"
        return f" after {', '.join(map(str, steps))} step{plural}" if steps else ""
