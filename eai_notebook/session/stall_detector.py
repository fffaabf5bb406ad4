"""Stall detector: find a cell that cannot go on, explain it, end it.

Ranks that have fallen silent are asked where they are. A rank in an exchange that a peer
will never join - the peer's cell is over, or it waits in another exchange - cannot go on,
and is ended soon with a sentence that says so. A rank in the middle of a
compiled step while a peer has left the training loop very likely does: it is named at
once, and ended after some patience, or soon if it has taken as many steps of their common run
as the peer that left it, or waits for a tensor of a peer whose cell is over: nobody is there to
send it. What may only be slow is left alone: a rank counts as
waiting when two answers in a row name the same place, step and number of exchanges, and a
rank that does not get to answer does not count at all.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from eai_notebook.session.rank_sets import name_ranks
from eai_notebook.telemetry.messages import (
    RunBegan,
    RunEnded,
    StackLocation,
    StepsDone,
    TensorsMissing,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from eai_notebook.telemetry.messages import Message

QUIET_S = 4.0
"""How long all unfinished ranks must have been silent before they are asked."""

SURE_S = 4.0
"""How long a stall must last before it is called one: a peer may just be on its way."""

ASK_S = 1.0
"""How often silent ranks are asked."""

LEAST_ANSWERS = 2
"""How many answers in a row must name the same place."""
REPORT_S = 25.0
"""How long Horovod's report of missing tensors holds, which it repeats every ten seconds."""

_FEW = 3
"""How many tensors of a rank are named."""

PATIENCE_S = 60.0
"""How long a stall that is likely, but not certain, may last."""


@dataclass(frozen=True)
class Stall:
    """Why a cell cannot go on, in one sentence; ``is_over`` once it should be ended."""

    why: str
    is_over: bool
    lasted: float = 0.0
    """Seconds in which no rank has moved."""

    def __str__(self) -> str:
        """Say what is known: where the ranks are, and for how long."""
        return f"{self.why}; no rank has moved for {self.lasted:.0f} s"


class StallWatch:
    """Watches one cell on `ranks`; ``ask(ranks)`` requests the ranks' locations.

    ``patience`` is how long a likely stall may last, in seconds of the clock ``now``.
    """

    def __init__(
        self,
        ranks: list[int],
        ask: Callable[[list[int]], None],
        patience: float = PATIENCE_S,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ranks = ranks
        self._patience = patience
        self._ask = ask
        self._now = now
        self._heard_at = self._asked_at = now()
        self._where: dict[int, StackLocation] = {}
        self._seen: dict[int, tuple[float, int]] = {}  # since when there, and how many answers
        self._unfinished = list(ranks)
        self._steps: dict[int, int] = {}
        self._in_run: set[int] = set()
        self._common: dict[int, str] = {}  # the last run of all ranks that each rank took part in
        self._tensors: TensorsMissing | None = None
        self._reported_at = 0.0

    def record_activity(self, message: Message | None = None) -> None:
        """Take note that some rank is alive: it printed, or its clock said `message`."""
        if isinstance(message, StackLocation):
            self._note_place(message)
            if message.steps is not None:
                self._steps[message.rank] = message.steps
            return
        if isinstance(message, TensorsMissing):
            self._tensors, self._reported_at = message, self._now()
            return
        self._heard_at = self._now()
        self._where.clear()
        self._seen.clear()
        self._tensors = None
        if isinstance(message, RunBegan):
            self._in_run.add(message.rank)
            self._steps[message.rank] = 0
            self._common.pop(message.rank, None)
            if message.size > 1:
                self._common[message.rank] = message.run
        elif isinstance(message, StepsDone):
            self._steps[message.rank] = self._steps.get(message.rank, 0) + len(message.rows)
        elif isinstance(message, RunEnded):
            self._in_run.discard(message.rank)

    @property
    def is_quiet(self) -> bool:
        """Whether the ranks have been silent for some time."""
        return self._now() - self._heard_at > QUIET_S

    def look(self, unfinished: list[int]) -> Stall | None:
        """Return the stall that the cell on its `unfinished` ranks is in, if it is in one."""
        now = self._now()
        if unfinished != self._unfinished:  # a rank has ended: what others wait for may be there
            self._unfinished = list(unfinished)
            self._seen.clear()
        if now - self._reported_at > REPORT_S:
            self._tensors = None
        if now - self._heard_at < QUIET_S:
            return None
        if now - self._asked_at > ASK_S:
            self._asked_at = now
            self._ask(unfinished)
        if not self._is_stalled(unfinished):
            return None
        lasted = now - max(self._seen[rank][0] for rank in unfinished)
        if lasted < SURE_S:
            return None
        certain = all(
            self._where[rank].exchange or self._is_ahead(rank) or self._waits_for_ended(rank)
            for rank in unfinished
        )
        return Stall(self._sentence(unfinished), certain or lasted > self._patience, lasted)

    def _note_place(self, where: StackLocation) -> None:
        """Note where a rank is, and whether it has moved since it was asked before."""
        before = self._where.get(where.rank)
        since, answers = self._seen.get(where.rank, (self._now(), 0))
        if before is None or _marks(before) != _marks(where):
            since, answers = self._now(), 0
        self._where[where.rank] = where
        self._seen[where.rank] = since, answers + 1

    def _is_stalled(self, unfinished: list[int]) -> bool:
        """Whether all unfinished ranks wait for a peer, and not all for the same thing."""
        if any(self._seen.get(rank, (0.0, 0))[1] < LEAST_ANSWERS for rank in unfinished):
            return False
        left = len(unfinished) < len(self._ranks) or any(
            self._where[rank].exchange for rank in unfinished
        )
        if self._tensors is not None and all(map(self._has_sent, unfinished)):
            return True
        waiting = all(self._waits(rank, left=left) for rank in unfinished)
        same = len(unfinished) == len(self._ranks) and len(set(map(self._place, unfinished))) == 1
        return waiting and not same

    def _waits(self, rank: int, *, left: bool) -> bool:
        """Whether `rank` is in an exchange, or in a step of a run that a peer has `left`."""
        where = self._where[rank]
        return (
            where.exchange is not None
            or self._has_sent(rank)
            or (left and where.compiled and rank in self._in_run)
        )

    def _is_ahead(self, rank: int) -> bool:
        """Whether `rank` is in a step of a common run that a peer has left before that step."""
        run, steps = self._common.get(rank), self._steps.get(rank)
        if run is None or steps is None or rank not in self._in_run:
            return False
        return self._where[rank].compiled and any(
            self._common.get(peer) == run
            and self._steps.get(peer, steps + 1) <= steps
            and self._has_left(peer)
            for peer in self._ranks
            if peer != rank
        )

    def _waits_for_ended(self, rank: int) -> bool:
        """Whether `rank` has sent a tensor that a rank whose cell is over has not sent."""
        if self._tensors is None or rank not in self._tensors.ring:
            return False
        own = set(self._tensors.missing.get(rank, ()))
        return self._where[rank].compiled and any(
            peer in self._ranks and peer not in self._unfinished and set(tensors) - own
            for peer, tensors in self._tensors.missing.items()
        )

    def _has_left(self, peer: int) -> bool:
        """Whether `peer` is in no step: its cell is over, or it is in an exchange of its own."""
        if peer not in self._unfinished:
            return True
        return peer in self._where and self._where[peer].exchange is not None

    def _has_sent(self, rank: int) -> bool:
        """Whether `rank` has sent a tensor that another has not sent for seconds."""
        if self._tensors is None or rank not in self._tensors.ring:
            return False
        missing = self._tensors.missing
        own = set(missing.get(rank, ()))
        return any(set(tensors) - own for other, tensors in missing.items() if other != rank)

    def _sentence(self, unfinished: list[int]) -> str:
        ended = [rank for rank in self._ranks if rank not in unfinished]
        sentences = [f"{name_ranks(ended)} ended the cell{self._after(ended)}"] if ended else []
        for place in sorted(set(map(self._place, unfinished))):
            there = [rank for rank in unfinished if self._place(rank) == place]
            sentences.append(f"{name_ranks(there)} wait{'s' * (len(there) == 1)} in {place}")
        missing = self._tensors.missing if self._tensors is not None else {}
        for rank, tensors in sorted(missing.items()):
            sentences.append(f"rank {rank} has not sent {_few(tensors)}, which others have")
        return "; ".join(sentences)

    def _place(self, rank: int) -> str:
        where = self._where[rank]
        doing = where.exchange or "a training step"
        return f"{doing}{self._after([rank])}, line {where.line}: `{where.code[:80]}`"

    def _after(self, ranks: list[int]) -> str:
        steps = sorted({self._steps[rank] for rank in ranks if rank in self._steps})
        plural = "" if steps == [1] else "s"
        return f" after {', '.join(map(str, steps))} step{plural}" if steps else ""


def _marks(where: StackLocation) -> tuple[object, ...]:
    """Return what differs between two answers of a rank that goes on."""
    return where.line, where.exchange, where.exchanges, where.steps


def _few(tensors: Sequence[str]) -> str:
    """Return the first few of `tensors` in words."""
    more = f" and {len(tensors) - _FEW} more" if len(tensors) > _FEW else ""
    return f"{', '.join(tensors[:_FEW])}{more}"
