"""Supervise a running cell: release and interrupt ranks when one fails or Stop is pressed.

The contract: an error on one rank ends the cell for all within seconds, an interrupt
always ends it, and nobody waits for a rank that is dead or does not listen.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Literal

from eai_notebook.session.cell import TelemetryCame
from eai_notebook.session.own_time import OwnTime
from eai_notebook.session.rank_sets import name_ranks
from eai_notebook.session.stall_detector import Stall, StallWatch
from eai_notebook.telemetry.messages import CellEnding, ResourceUsage

if TYPE_CHECKING:
    from collections.abc import Callable

    from eai_notebook.cluster.group import Group
    from eai_notebook.session.cell import Cell, Event

RELEASE_S = 2.0
"""How long the other ranks may go on after one has failed, before they are interrupted."""

REPEAT_INTERRUPT_S = 2.0
"""How long an interrupted rank may take before it is signalled again. An interrupt is lost
when it strikes where Python ignores exceptions, as in a finalizer."""

ABANDON_AFTER_S = 4.5
"""After a failure or an interrupt, wait this long for unresponsive ranks, then end the cell."""

ENDING_S = 60.0
"""The same for a rank that has said that its cell is ending: it is formatting its error. This
takes seconds where the error comes from deep recursion."""

GIVE_UP_S = 10.0
"""How long the next cell waits for a rank that did not listen, before it is refused."""

SILENT_S = 0.5
"""The next cell waits this long for such a rank before it announces the wait."""

ASK_S = 5.0
"""How often ranks whose cell is over are asked what others wait for."""

ANSWER_S = 0.5
"""How long they may take to answer; they have nothing else to do."""

TICK_S = 0.05

INTERRUPT_HINT = "Interrupt the cell to free them now."

Outcome = Literal["ended", "interrupted", "stalled", "died"]


class CellSupervisor:
    """What has been done about one cell so far; times are the ranks' own, see `OwnTime`."""

    def __init__(
        self, group: Group, cell: Cell, say: Callable[[str], None], patience: float
    ) -> None:
        self._group = group
        self._cell = cell
        self._clock: OwnTime | None = None
        self._ending: set[int] = set()
        self._failed_at: float | None = None
        self._signalled_at: float | None = None
        self._stall = StallWatch(cell.ranks, group.ask_where, patience)
        self._say = say
        self._asked_at = 0.0
        self._turned_away_at = -math.inf
        self._announced = False
        self._insisted = False
        self.interrupted = False
        self.stalled: str | None = None

    def record_activity(self, event: Event) -> None:
        """Take note of a sign of life; that a process has a pulse is none of its cell."""
        if isinstance(event, TelemetryCame) and isinstance(event.message, ResourceUsage):
            return
        if isinstance(event, TelemetryCame) and isinstance(event.message, CellEnding):
            self._ending.add(event.message.rank)
        self._stall.record_activity(event.message if isinstance(event, TelemetryCame) else None)

    def interrupt(self) -> None:
        """Stop the ranks on the user's behalf; asking again signals them again."""
        self.interrupted = True
        self._signal()

    def look(self) -> Outcome | None:
        """Return what the cell has come to, or do what is due while it goes on."""
        cell = self._cell
        if cell.lost and not self._group.survives:
            return "died"
        if cell.is_over or self._is_unresponsive():
            if self.interrupted:
                return "interrupted"
            return "ended" if self.stalled is None else "stalled"
        if not self._group.is_alive and cell.unfinished:
            return "died"
        if self._signalled_at is None:
            self._stop_what_cannot_end()
        elif cell.unfinished:
            self._insist(self._now() - self._signalled_at)
        return None

    def _now(self) -> float:
        """Return the ranks' own time since this was first asked; only what must end is timed."""
        if self._clock is None:
            self._clock = OwnTime(self._group.local_pids)
        return self._clock.now()

    def _is_unresponsive(self) -> bool:
        """Whether some rank goes on that was signalled, after all the time it gets."""
        if self._signalled_at is None or not self._cell.unfinished:
            return False
        since = self._signalled_at if self._failed_at is None else self._failed_at
        return self._now() - since > (ABANDON_AFTER_S if self._going_on() else ENDING_S)

    def _going_on(self) -> list[int]:
        """Return the ranks that have neither answered nor said that their cell is ending."""
        return [rank for rank in self._cell.unfinished if rank not in self._ending]

    def _insist(self, waited: float) -> None:
        """Signal once more those that were signalled in vain."""
        if waited > REPEAT_INTERRUPT_S and not self._insisted:
            self._insisted = True
            self._group.interrupt(self._going_on())

    def _stop_what_cannot_end(self) -> None:
        """Signal the ranks that go on after a failure, or that can never go on."""
        cell = self._cell
        if cell.failed:
            now = self._now()
            self._failed_at = now if self._failed_at is None else self._failed_at
            if cell.unfinished and now - self._failed_at > RELEASE_S:
                self._signal()
        elif cell.waits_for_newcomers:
            self._turn_away(self._now())
        elif cell.unfinished:
            self._ask_those_that_ended(self._now())
            going_on = [rank for rank in cell.unfinished if rank not in cell.joining]
            self._end_stall(self._stall.look(going_on))

    def _turn_away(self, now: float) -> None:
        """Interrupt newcomers that have not joined the cell's training, which is over."""
        if now - self._turned_away_at > REPEAT_INTERRUPT_S:
            self._turned_away_at = now
            self._group.interrupt(self._cell.unfinished)

    def _ask_those_that_ended(self, now: float) -> None:
        """Ask for missing tensors where no cell runs any more that would say so by itself."""
        cell = self._cell
        ended = [rank for rank in cell.ranks if rank not in cell.unfinished]
        if ended and self._stall.is_quiet and now - self._asked_at > ASK_S:
            self._asked_at = now
            for report in self._group.tensors_missing(ended, ANSWER_S):
                self._stall.record_activity(report)

    def _end_stall(self, stall: Stall | None) -> None:
        """Say what the ranks wait for, once, and end it when it is time."""
        if stall is None:
            return
        if stall.is_over:
            self.stalled = str(stall)
            self._signal()
        elif not self._announced:
            self._announced = True
            self._say(f"{stall}. {INTERRUPT_HINT}")

    def _signal(self) -> None:
        self._signalled_at = self._now() if self._signalled_at is None else self._signalled_at
        self._group.interrupt(self._going_on())


def supervise(
    group: Group,
    cell: Cell,
    *,
    on_event: Callable[[Event], None],
    on_tick: Callable[[], None],
    is_stopped: Callable[[], bool],
    say: Callable[[str], None],
    patience: float,
) -> tuple[Outcome, str]:
    """Follow `cell` until it is over, passing on its events; return how it ended, and why.

    ``on_tick`` is called after each batch of events, about twenty times a second, and so is
    ``is_stopped`` returns whether the user wants the ranks to stop, evaluated at each call. ``say``
    is given what the user should know meanwhile, a sentence a time; ``patience`` is how long a
    likely stall may last, in seconds.
    """
    course = CellSupervisor(group, cell, say, patience)
    while True:
        for event in cell.events(TICK_S):
            course.record_activity(event)
            on_event(event)
        on_tick()
        if is_stopped():
            course.interrupt()
        outcome = course.look()
        if outcome is not None:
            return outcome, course.stalled or ""


def wait_for_stragglers(group: Group, cell: Cell, progress: Callable[[str], None]) -> bool:
    """Wait for the ranks that were left behind in `cell`; return whether all have ended.

    They are interrupted once more, since their first interrupt may have been lost. The time they
    get is their own: a rank that gets no processor is waited for longer.
    """
    begin, own = time.monotonic(), OwnTime(group.local_pids)
    group.interrupt(cell.unfinished)
    while not cell.is_over and group.is_alive:
        if own.now() > GIVE_UP_S:
            return False
        waited = time.monotonic() - begin
        if cell.unfinished and waited > SILENT_S:
            progress(f"{name_ranks(cell.unfinished)}: not stopped yet, {waited:.0f} s")
        for _ in cell.events(0.2):
            pass
    return cell.is_over
