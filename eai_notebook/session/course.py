"""The course of a cell: followed to its end, and ended when it fails or is stopped.

The contract: an error on one rank ends the cell for all within seconds, an interrupt
always ends it, and nobody waits for a rank that is dead or does not listen.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

    from eai_notebook.cluster.group import Group
    from eai_notebook.session.cell import Cell, Event

RELEASE_S = 3.0
"""How long the other ranks may go on after one has failed, before they are interrupted."""

STOP_S = 5.0
"""How long an interrupted rank may take to end its cell, before it counts as stuck."""

TICK_S = 0.05

Outcome = Literal["ended", "interrupted", "died", "stuck"]


class Course:
    """What has been done about one cell so far; times are of the monotonic clock, in seconds."""

    def __init__(self, group: Group, cell: Cell) -> None:
        self._group = group
        self._cell = cell
        self._failed_at: float | None = None
        self._signalled_at: float | None = None
        self.interrupted = False

    def interrupt(self) -> None:
        """Stop the ranks on the user's behalf; asking again changes nothing."""
        self.interrupted = True
        if self._signalled_at is None:
            self._signal()

    def look(self) -> Outcome | None:
        """Do what is due, and return what the cell has come to, or None while it goes on."""
        cell, now = self._cell, time.monotonic()
        if any(reply.ename == "EngineError" for reply in cell.replies.values()):
            return "died"
        if cell.is_over:
            return "interrupted" if self.interrupted else "ended"
        if not self._group.is_alive and cell.unfinished:
            return "died"
        if cell.failed and self._failed_at is None:
            self._failed_at = now
        if self._signalled_at is not None:
            stuck = cell.unfinished and now - self._signalled_at > STOP_S
            return "stuck" if stuck else None
        if self._failed_at is not None and now - self._failed_at > RELEASE_S and cell.unfinished:
            self._signal()
        return None

    def _signal(self) -> None:
        self._signalled_at = time.monotonic()
        self._group.interrupt(self._cell.unfinished)


def see_through(
    group: Group, cell: Cell, on_event: Callable[[Event], None], on_tick: Callable[[], None]
) -> Outcome:
    """Follow `cell` until it is over, passing on its events, and return how it ended.

    ``on_tick`` is called after each batch of events, about twenty times a second. A
    `KeyboardInterrupt` that arrives meanwhile stops the ranks, and is told by the outcome
    once they have stopped.
    """
    course = Course(group, cell)
    while True:
        try:
            for event in cell.events(TICK_S):
                on_event(event)
            on_tick()
            outcome = course.look()
        except KeyboardInterrupt:  # it may strike anywhere above; the loop takes up from there
            course.interrupt()
            continue
        if outcome is not None:
            return outcome
