"""`CellRunner`: runs cells on a group, one after the other: ring, supervision, outcome."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from eai_notebook.errors import EaiError
from eai_notebook.session.cell import Cell, TelemetryCame
from eai_notebook.session.cell_output import CellOutput
from eai_notebook.session.cell_supervisor import Outcome, supervise, wait_for_stragglers
from eai_notebook.session.interrupts import DeferredInterrupt
from eai_notebook.session.rank_errors import in_a_line, interruption, root_cause
from eai_notebook.session.rank_loss import explaining_rank_loss, name_missing, ranks_gone
from eai_notebook.session.rank_sets import format_ranks, name_ranks
from eai_notebook.session.ring_membership import RingMembership
from eai_notebook.telemetry.messages import RankJoined, VariableDigested

if TYPE_CHECKING:
    from collections.abc import Callable

    from eai_notebook.cluster.group import Group
    from eai_notebook.session.cell import Event
    from eai_notebook.session.group_view import GroupView
    from eai_notebook.session.growth import Growth
    from eai_notebook.session.guarded_watcher import GuardedWatcher
    from eai_notebook.session.run_recorder import RunRecorder


class CellRunner:
    """Runs the cells of one group.

    Args:
        group: The group.
        view: Is kept up to date.
        watcher: Is shown output and runs.
        recorder: Records the runs.
        lose: Ends a group that has lost a rank, whose death it is given in words, and returns the
            error to raise.
    """

    def __init__(
        self,
        group: Group,
        view: GroupView,
        watcher: GuardedWatcher,
        recorder: RunRecorder,
        lose: Callable[[str], EaiError],
    ) -> None:
        self.ring = RingMembership()
        self._group = group
        self._view = view
        self._watcher = watcher
        self._recorder = recorder
        self._lose = lose
        self.growth: Growth | None = None
        """The newcomers of an elastic group; None where none can come."""
        self._running: Cell | None = None
        self._stragglers: Cell | None = None  # a stopped cell that some rank still runs

    @property
    def is_running(self) -> bool:
        """Whether a cell runs now; any thread may ask."""
        return self._running is not None

    def compare(self, name: str) -> str | None:
        """Compare a variable of the ranks that run a cell; None if none does. Any thread may ask."""
        cell = self._running
        ranks = [] if cell is None else cell.unfinished
        return self._view.diff.ask(self._group, ranks, name) if ranks else None

    @property
    def is_clear(self) -> bool:
        """Whether no rank still runs a cell that was stopped."""
        return self._stragglers is None

    def run(self, code: str, ranks: list[int], patience: float) -> None:
        """Run `code` on `ranks`; raise the root cause if it fails on one of them."""
        with DeferredInterrupt() as presses:
            self._form_ring(ranks, presses)
            if presses.take():
                raise interruption(ranks)
            self._see_through(code, ranks, presses, patience)

    def died(self, _group: Group | None = None) -> EaiError:
        """Return the error to raise for a rank that has died; end the group, if it cannot go on."""
        if self._group.survives:
            return self._rank_died()
        missing = name_missing(self._group, self._view.hosts)
        return self._lose(f"{self._group.death(missing)}; the group is gone")

    def _rank_died(self) -> EaiError:
        """Return the error of an elastic group that has lost ranks; the others go on."""
        self.ring.ranks = None
        missing = self._group.missing
        new = [rank for rank in missing if rank not in self._view.gone] or missing
        self._view.note_gone(missing)
        return EaiError(
            ranks_gone(self._group, new, self._view.hosts),
            "run the cell again on those, or `%eai restart` for a whole group without variables",
            code="rank-died",
        )

    def show_notices(self) -> None:
        """Show what the launcher has to say, such as that the time of a job is running out."""
        for words in self._group.launcher.notices():
            self._watcher.text("stderr", words + "\n")

    def _form_ring(self, ranks: list[int], presses: DeferredInterrupt) -> None:
        """Form the ring on `ranks` if the last cell broke it or it spans others."""
        with explaining_rank_loss(self._group, self.died):
            formed = self.ring.form(self._group, ranks, presses, self._watcher.progress)
        if not formed:
            raise in_a_line(
                KeyboardInterrupt(),
                f"{name_ranks(ranks)} still form their ring; nothing is lost, the next cell waits "
                "for them; `%eai restart` ends the group, and with it the variables of all ranks",
            )

    def _see_through(
        self, code: str, ranks: list[int], presses: DeferredInterrupt, patience: float
    ) -> None:
        self._watcher.books.begin_cell()
        self._view.begin_cell(ranks)
        with explaining_rank_loss(self._group, self.died):
            cell = Cell(self._group, code, ranks, self._view.hosts)
        show = CellOutput(self._watcher, self._recorder, self._view.pulse, ranks, self._group.size)
        self._running = cell

        def hear(event: Event) -> None:
            show.take(event)
            if not isinstance(event, TelemetryCame):
                return
            if isinstance(event.message, RankJoined):
                self._note_joined(cell, event.message.rank)
            elif isinstance(event.message, VariableDigested) and self._view.diff.take(
                event.message
            ):
                self._view.show()

        try:
            outcome, why = supervise(
                self._group,
                cell,
                on_event=hear,
                on_tick=partial(self._tick, cell, show),
                is_stopped=presses.take,
                say=show.say,
                patience=patience,
            )
        except KeyboardInterrupt:  # the user insisted: ranks that still run are waited for later
            self.ring.ranks, self._stragglers = None, cell
            self._view.set_state("up")
            raise
        finally:
            self._running = None
            show.close()
            self._view.diff.end_cell()
        self._conclude(cell, outcome, why)

    def _note_joined(self, cell: Cell, rank: int) -> None:
        """Count a newcomer among the ranks of a cell, whose training it has joined."""
        if rank not in cell.joining or self.growth is None:
            return
        cell.joining.discard(rank)
        self.ring.forget()
        self._view.note_joined(self.growth.joined(rank))

    def _invite(self, cell: Cell, show: CellOutput) -> None:
        """Have newcomers that are ready run the cell, if its training is that of all."""
        if self.growth is None or set(cell.ranks) < set(self._group.live):
            return
        for newcomer in self.growth.at_door():
            show.add(newcomer.number)
            cell.add(newcomer.number)

    def _tick(self, cell: Cell, show: CellOutput) -> None:
        self._invite(cell, show)
        before = self._recorder.trace
        show.tick()
        self.show_notices()
        if self._view.pulse.take_update() or self._recorder.trace is not before:
            self._view.show()

    def _conclude(self, cell: Cell, outcome: Outcome, why: str) -> None:
        """Raise the outcome of the cell, unless it ended well on every rank."""
        if outcome == "died":
            raise self._lose(f"{self._group.death(cell.first_missed())}; the group is gone")
        self._view.set_state("up")
        for rank in sorted(cell.joining):
            reply = cell.replies.get(rank)
            why = "the training was over" if reply is None or reply.was_stopped else reply.words
            self._watcher.text("stderr", f"rank {rank} comes in with the next cell: {why}\n")
        replies = [
            reply
            for reply in cell.replies.values()
            if not reply.is_lost and reply.rank not in cell.joining
        ]
        error = root_cause(replies, cell.unfinished)
        if cell.lost:
            self.ring.ranks = None
            self._view.note_gone(self._group.missing)
            if error is not None or cell.unfinished:
                raise self._rank_died() from error
            words = ranks_gone(self._group, cell.lost, self._view.hosts)
            self._watcher.text("stderr", f"{words}, and have run the cell to its end\n")
        if error is not None or cell.unfinished or outcome != "ended":
            # Some rank has released it, or may have: a cell can catch its interrupt and end well.
            self.ring.ranks = None
        if cell.unfinished:
            self._stragglers = cell
        if outcome == "interrupted":
            raise interruption(cell.ranks, cell.unfinished)
        if outcome == "stalled":
            raise _stalled(cell, why)
        if error is not None:
            raise error

    def wait_for_stragglers(self) -> None:
        """Give a cell that was stopped the time to end.

        Its group is not ended if it does not: this costs the variables of all ranks, so only the
        user does that.
        """
        cell = self._stragglers
        if cell is None:
            return
        waited: list[str] = []

        def progress(words: str) -> None:
            waited.append(words)
            self._watcher.progress(words)

        if wait_for_stragglers(self._group, cell, progress):
            self._stragglers = None
            if waited:  # else nobody has waited, and needs no answer
                self._watcher.progress(f"{name_ranks(cell.ranks)} stopped", final=True)
            return
        if not self._group.is_alive or (self._group.missing and not self._group.survives):
            raise self.died()
        what = f"{name_ranks(cell.unfinished)} did not stop: the cell before still runs there"
        remedy = (
            "nothing is lost, run this cell again to wait longer; "
            "`%eai restart` ends the group, and with it the variables of all ranks"
        )
        raise EaiError(what, remedy, code="cell-still-runs")


def _stalled(cell: Cell, why: str) -> EaiError:
    """Return the error of a cell in which ranks waited for peers that did not come."""
    waiting = [rank for rank in cell.ranks if rank not in cell.replies]
    waiting += [rank for rank, reply in cell.replies.items() if reply.failed]
    remedy = "let every rank take part in it"
    if "end of an epoch" in why:
        remedy = (
            "give every rank equally many batches: eai.shard(data), `.repeat()`, or fewer steps"
        )
    elif 0 < len(waiting) < len(cell.ranks):
        alone = format_ranks(waiting)
        remedy += f", or run what is for {name_ranks(waiting)} alone "
        remedy += f"in a cell of its own: `%%distributed --ranks {alone}`"
    return EaiError(why, remedy, code="ranks-stalled")
