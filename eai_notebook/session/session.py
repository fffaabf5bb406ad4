"""`Session`: one group of ranks, the cells it runs and the runs it has recorded."""

from __future__ import annotations

import atexit
import contextlib
import socket
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from eai_notebook.bookkeeping import PANEL, REGISTRY
from eai_notebook.cluster import listening, registry
from eai_notebook.cluster.allreduce_tuning import algorithm_choice
from eai_notebook.cluster.group import Group
from eai_notebook.cluster.hostfile import parse_hosts
from eai_notebook.cluster.launchers.local import LAUNCHER as LOCAL
from eai_notebook.cluster.launchers.local import unused_settings
from eai_notebook.cluster.launchers.ssh import LAUNCHER as REMOTE
from eai_notebook.cluster.preflight import prepare
from eai_notebook.errors import EaiError
from eai_notebook.ledger.report import Report, report_record
from eai_notebook.ledger.run_record import RunRecord, list_runs, runs_folder
from eai_notebook.session import (
    profile_request,
    rank_locations,
    remote_calls,
    stall_detector,
    start_times,
    variables,
)
from eai_notebook.session.cell import Cell
from eai_notebook.session.cell_output import CellOutput
from eai_notebook.session.cell_supervisor import Outcome, supervise, wait_for_stragglers
from eai_notebook.session.group_options import checked_wire, crowded, group_size, kept_entry
from eai_notebook.session.guarded_watcher import GuardedWatcher
from eai_notebook.session.interrupts import DeferredInterrupt
from eai_notebook.session.observer import Watcher
from eai_notebook.session.rank_errors import in_a_line, interruption, root_cause
from eai_notebook.session.rank_loss import explaining_rank_loss, name_missing
from eai_notebook.session.rank_sets import checked_ranks, count_ranks, format_ranks, name_ranks
from eai_notebook.session.rank_status import RankStatus
from eai_notebook.session.ring_membership import RingMembership
from eai_notebook.session.run_recorder import RunRecorder
from eai_notebook.session.warm_up import WarmUp

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Self


class Session:
    """Starts a group of ranks and runs code on all of them at once.

    Use it from a script as the magics do from a notebook::

        with Session(2) as session:
            session.run("import eai_notebook as eai; print(eai.rank())")
            print(session.pull("some_variable"))

    Everything raises `EaiError` with the remedy when it cannot be done, `RankError` when
    a rank's own code failed, and `KeyboardInterrupt` when the user stopped it.
    """

    def __init__(
        self,
        size: int | None = None,
        *,
        hosts: str | Sequence[str] | None = None,
        interface: str | None = None,
        measure_again: bool = False,
        wire: str | None = None,
        launcher: str = LOCAL,
        watcher: Watcher | None = None,
    ) -> None:
        self._places = parse_hosts(hosts) if hosts else ()
        self._interface = interface
        self._measure_again = measure_again
        self._wire = checked_wire(wire)
        self.ring_choice: algorithm_choice.AllreduceChoice | None = None
        self.size = group_size(size, self._places)
        if self.size < 1:
            raise EaiError(f"a group of {self.size} ranks cannot be", "ask for 1 or more: `-n 2`")
        self.watcher = GuardedWatcher(watcher or Watcher())
        self._books = self.watcher.books
        self.state = "down"
        self._message = ""
        self._since = time.time()  # when it came to its state
        self._step = ""  # what a start is at
        self._cancelled = threading.Event()
        self.hosts: dict[int, str] = {}
        self.pids: dict[int, int] = {}
        self._launcher = launcher
        self._group: Group | None = None
        self._kept = False
        self._warm_up: WarmUp | None = None
        self._stragglers: Cell | None = None  # a stopped cell that some rank still runs
        self._ring = RingMembership()
        self._setup: list[tuple[str, list[int] | None]] = []
        self._keeper = RunRecorder(runs_folder(), self._books)
        self.pulse = RankStatus()

    def __enter__(self) -> Self:
        """Start the group, unless one is attached to."""
        if self._group is None:
            self.up()
        return self

    def __exit__(self, *_: object) -> None:
        """End the group, or leave it if it is kept."""
        self._at_exit()

    @property
    def runs(self) -> list[RunRecord]:
        """The runs recorded in this session, oldest first."""
        return self._keeper.records

    @property
    def latest_trace(self) -> dict[str, str] | None:
        """The latest trace in depth: its ``file`` and what is in it in ``words``; None without one."""
        return self._keeper.trace

    @property
    def is_up(self) -> bool:
        """Whether there is a group to run cells on."""
        return self._group is not None

    @property
    def name(self) -> str | None:
        """What the group is listed as, and can be attached to by; None when it is down."""
        return None if self._group is None else self._group.entry.name

    def up(self, *, keep: bool = False) -> None:
        """Start the group; TensorFlow loads on its ranks while this returns.

        With `keep` it stays when this process ends, for `attach` from another one.
        """
        if self._group is not None:
            what = f"a group of {self.size} is already up"
            raise EaiError(what, "use it, or end it first with `%eai down`")
        self._cancelled.clear()
        self._step = ""
        self._set_state("starting")
        began = time.monotonic()
        try:
            self._bring_up(keep=keep, **self._plan())
            with self._books.doing(PANEL):
                start_times.note(self._start_kind("start"), time.monotonic() - began)
            crowd = "" if self._places else crowded(self.size)
            unused = unused_settings()
            self.watcher.progress(
                f"{self._words()}, loading TensorFlow{crowd}" + (f"; {unused}" if unused else ""),
                final=True,
            )
        except BaseException as error:
            self.down()
            if isinstance(error, KeyboardInterrupt):
                with contextlib.suppress(KeyboardInterrupt):  # pressed again: all is stopped
                    self.watcher.progress("start stopped", final=True)
                raise in_a_line(error, "start stopped; nothing is left running") from None
            raise

    def cancel(self) -> None:
        """Give up a start that goes on, from any thread; `up` then raises `KeyboardInterrupt`."""
        if self.state == "starting":
            self._cancelled.set()

    def _is_cancelled(self) -> bool:
        """Return whether the start is to be given up since this was last asked."""
        if not self._cancelled.is_set():
            return False
        self._cancelled.clear()  # asked again, it would mean that the user insists
        return True

    def _progress(self, words: str) -> None:
        """Say what a start is at, in the cell and in the panel."""
        self.watcher.progress(words)
        if words != self._step:
            self._step = words
            self.watcher.group_from(self.group_model)

    def _start_kind(self, phase: str) -> str:
        """Return which starts take about as long as this one: by ranks, and here or on hosts."""
        return f"{phase} of {self.size} on {len(self._places) or 'this'}"

    def _plan(self) -> dict[str, Any]:
        """Return how `Group.start` is to start it: on which hosts, and how they are to exchange."""
        if not self._places:
            return {"launcher": self._launcher}
        say = self._progress
        say(f"looking at {len(self._places)} hosts")
        place = prepare(self._places, self._interface)
        self.ring_choice = algorithm_choice.choose(place, say, again=self._measure_again)
        self._measure_again = False
        if self.ring_choice is None:
            return {"launcher": REMOTE, "place": place}
        self._keeper.facts = {"link_bytes_per_s": self.ring_choice.goodput}
        ring, told = algorithm_choice.apply(place, self.ring_choice), self.ring_choice.environment()
        return {"launcher": REMOTE, "place": place, "ring": ring, "told": told}

    def _bring_up(self, *, keep: bool, **plan: Any) -> None:
        """Start the group and take it over; a press of Stop leaves all of it, or nothing."""
        with DeferredInterrupt() as presses:
            self._group = group = Group.start(
                self.size,
                progress=self._progress,
                is_stopped=lambda: presses.take() or self._is_cancelled(),
                **plan,
            )
            self._kept = keep
            if keep:
                group.keep()
            words = "TensorFlow is loading on the ranks"
            self._take_over(group, words, remote_calls.warm_up, self._wire)
            self._ring.ranks = tuple(range(self.size))

    @classmethod
    def attach(cls, name: str | None = None, *, watcher: Watcher | None = None) -> Session:
        """Return a session on a group that was kept, the only one there is by default.

        Its variables are as they were; its set-up cells come along. Raises `EaiError` if
        there is no such group, or if a kernel uses it now.
        """
        entry = kept_entry() if name is None else registry.find(name)
        session = cls(entry.size, watcher=watcher)
        session._group, session._kept = (group := Group.attach(entry)), True
        session._setup = list(entry.setup)
        session._take_over(
            group, "the ranks still run a cell of the kernel before", remote_calls.describe_rank
        )
        return session

    def detach(self) -> None:
        """Leave a kept group running; harmless when the session is down."""
        atexit.unregister(self._at_exit)
        group, self._group = self._group, None
        if group is not None:
            group.leave()
        self._set_state("down")

    def _take_over(self, group: Group, words: str, errand: Any, *arguments: Any) -> None:
        """Use the group from now on; its ranks do `errand` first, told about in `words`."""
        atexit.register(self._at_exit)
        with explaining_rank_loss(group, self._died):
            self._warm_up = WarmUp(group, words, errand, *arguments)
        self._set_state("up")
        self._warm_up.then(partial(self._introduce, group))

    def _at_exit(self) -> None:
        if self._kept:
            self.detach()
        else:
            self.down()

    def down(self) -> None:
        """End the group and everything that was started for it; harmless when it is down."""
        atexit.unregister(self._at_exit)
        group, self._group = self._group, None
        if group is not None:
            self._set_state("stopping")
            group.stop()
        self._ring.ranks, self._warm_up, self._stragglers = None, None, None
        self.hosts, self.pids = {}, {}
        self.pulse.forget()
        self._set_state("down")

    def serve(self, servers: int, *, apart: bool = False, asynchronous: bool = False) -> None:
        """Train on `servers` parameter servers from now on, also after a restart.

        ``apart``: the last ranks are servers and nothing else; ``asynchronous``: workers
        do not wait for each other. It comes before any cell that makes a variable.
        """
        self.run(
            "from eai_notebook import parameter_servers as _servers\n"
            f"_servers.start({servers}, apart={apart}, asynchronous={asynchronous})\n"
            "del _servers",
            setup=True,
        )

    def restart(self) -> None:
        """End the group, start it again and replay the set-up cells."""
        self.down()
        self.up(keep=self._kept)
        cells = list(self._setup)
        for number, (code, ranks) in enumerate(cells, 1):
            title = code.strip().partition("\n")[0][:60]
            self.watcher.progress(f"set-up cell {number} of {len(cells)}: `{title}`")
            self._run_once(code, ranks)
        if cells:
            plural = "s" * (len(cells) > 1)
            self.watcher.progress(f"{len(cells)} set-up cell{plural} replayed", final=True)

    def run(
        self,
        code: str,
        ranks: Sequence[int] | None = None,
        *,
        setup: bool = False,
        restart: bool = False,
        patience: float = stall_detector.PATIENCE_S,
    ) -> None:
        """Run `code` as a cell on `ranks` (all by default), and return when all have ended.

        A `setup` cell is replayed by `restart`. The ring spans `ranks` while it runs.
        Raises what a rank raised, the cause and not a consequence; the other ranks have
        then been released and keep their variables.

        With `restart`, a death starts the group again, once, and runs the cell once more:
        a training with a checkpoint goes on where that is. ``patience`` is how long ranks
        may wait for a peer that very likely never comes, in seconds.
        """
        chosen = None if ranks is None else list(ranks)
        try:
            self._run_once(code, chosen, patience)
        except EaiError as error:
            if not (restart and self.state == "lost"):
                raise
            self.watcher.text("stderr", f"{error.what}; starting it again for this cell\n")
            self.restart()
            self._run_once(code, chosen, patience)
        if setup:
            self._setup.append((code, chosen))
            group = self._ready_group()
            with self._books.doing(REGISTRY):
                group.note_setup(self._setup)

    def _run_once(
        self, code: str, ranks: list[int] | None, patience: float = stall_detector.PATIENCE_S
    ) -> None:
        group = self._ready_group()
        chosen = list(range(self.size)) if ranks is None else checked_ranks(ranks, self.size)
        with DeferredInterrupt() as presses:
            self._form_ring(group, chosen, presses)
            if presses.take():
                raise interruption(chosen)
            self._see_through(group, code, chosen, presses, patience)

    def _see_through(
        self,
        group: Group,
        code: str,
        chosen: list[int],
        presses: DeferredInterrupt,
        patience: float,
    ) -> None:
        self._books.begin_cell()
        self._set_state("busy")
        with explaining_rank_loss(group, self._died):
            cell = Cell(group, code, chosen, self.hosts)
        show = CellOutput(self.watcher, self._keeper, self.pulse, chosen, self.size)
        try:
            outcome, why = supervise(
                group,
                cell,
                on_event=show.take,
                on_tick=partial(self._tick, show),
                is_stopped=presses.take,
                say=show.say,
                patience=patience,
            )
        except KeyboardInterrupt:  # the user insisted: whoever still runs is waited for later
            self._ring.ranks, self._stragglers = None, cell
            self._set_state("up")
            raise
        finally:
            show.close()
        self._conclude(group, cell, outcome, why)

    def pull(self, name: str, rank: int = 0) -> Any:
        """Return variable `name` of `rank`; a Keras history comes as plain numbers.

        A Keras model comes as a model on the CPU, which loads TensorFlow here, with the
        optimizer that a `DistributedOptimizer` has wrapped.
        """
        return variables.pull(self._ready_group(), name, rank, self._died)

    def has(self, name: str) -> bool:
        """Return whether rank 0 has a variable `name`; False also if it cannot be asked now."""
        if self._group is None or self.state != "up" or self._warm_up or self._stragglers:
            return False
        return variables.has(self._group, name)

    def push(self, **values: Any) -> None:
        """Set variables on every rank, by name, to values that can be pickled."""
        variables.push(self._ready_group(), values, self._died)

    def diff(self, name: str) -> str:
        """Compare variable `name` of all ranks, and say where they first differ.

        Arrays, tensors, Keras variables, models with their optimizers, and containers of
        them are compared bit for bit, other values by their text.
        """
        return variables.diff(self._ready_group(), name, self._died)

    def where(self) -> str:
        """Return what every rank is doing now, in words; any thread may ask, at any time."""
        if self._group is None:
            raise EaiError("no group is running", "start one with `%eai up`")
        ranks = range(self.size)
        return rank_locations.describe_locations(
            ranks, self._group.where(ranks, rank_locations.PATIENCE_S)
        )

    def listening(self) -> str:
        """Return which programs of the group listen where on this machine; empty if none does."""
        return "" if self._group is None else listening.of_group(self._group.entry)

    def trace(self, steps: int) -> str:
        """Have the ranks record `steps` steps in depth; any thread may ask, at any time.

        Of the run that goes on, or else of the next one. What they recorded is written
        into the run's folder, and told with the output of its cell. Returns what was asked.
        """
        if self._group is None:
            raise EaiError("no group is running", "start one with `%eai up`")
        if self.state == "up":
            self._ready_group()  # a rank that still loads TensorFlow cannot answer
        return profile_request.request_profile(self._group, steps)

    def interrupt(self) -> None:
        """Interrupt whatever the ranks are running."""
        if self._group is not None:
            self._group.interrupt(range(self.size))

    def report(self, run: RunRecord | None = None) -> Report:
        """Return the report on `run`, the latest one by default."""
        if run is None:
            if self._keeper.records:
                run = self._keeper.records[-1]
            elif found := list_runs(self._keeper.root):
                run = RunRecord(found[0])
            else:
                raise EaiError("no run is recorded yet", "train something in a %%distributed cell")
        return report_record(run)

    def group_model(self) -> dict[str, Any]:
        """Return the state of the group as the panel's group model."""
        ranks = [
            {
                "rank": rank,
                "host": self.hosts[rank],
                "pid": self.pids[rank],
                "state": self.state,
                **self.pulse.of(rank),
            }
            for rank in sorted(self.hosts)
        ]
        if not ranks and self._warm_up is not None:
            ranks = [
                {"rank": rank, "host": "", "pid": None, "state": "loading"}
                for rank in range(self.size)
            ]
        loading = self.state == "up" and not self.hosts
        phase = {"starting": "start", "up": "load"}.get(self.state) if not self.hosts else None
        return {
            "state": self.state,
            "size": self.size,
            "message": self._words(),
            "ranks": ranks,
            "since": self._since,
            "loading": loading,
            "trace": self._keeper.trace,
            "step": self._step if self.state == "starting" else "",
            "usual_s": start_times.usual(self._start_kind(phase)) if phase else None,
        }

    # -- the life of a cell -------------------------------------------------------------

    def _conclude(self, group: Group, cell: Cell, outcome: Outcome, why: str) -> None:
        """Raise what the cell came to, unless it ended well on every rank."""
        if outcome == "died":
            raise self._lost(f"{group.death(cell.first_missed())}; the group is gone")
        self._set_state("up")
        error = root_cause(list(cell.replies.values()), cell.unfinished)
        if error is not None or cell.unfinished:
            self._ring.ranks = None  # some rank has released it
        if cell.unfinished:
            self._stragglers = cell
        if outcome == "interrupted":
            raise interruption(cell.ranks, cell.unfinished)
        if outcome == "stalled":
            waiting = [rank for rank in cell.ranks if rank not in cell.replies]
            waiting += [rank for rank, reply in cell.replies.items() if reply.failed]
            remedy = "let every rank take part in it"
            if 0 < len(waiting) < len(cell.ranks):
                alone = format_ranks(waiting)
                remedy += f", or run what is for {name_ranks(waiting)} alone "
                remedy += f"in a cell of its own: `%%distributed --ranks {alone}`"
            raise EaiError(why, remedy)
        if error is not None:
            raise error

    def _tick(self, show: CellOutput) -> None:
        before = self._keeper.trace
        show.tick()
        if self.pulse.take_update() or self._keeper.trace is not before:
            self.watcher.group_from(self.group_model)

    # -- the state of the group ---------------------------------------------------------

    def _ready_group(self) -> Group:
        """Return the group with its ranks warmed up, or say why there is none."""
        if self._group is None:
            raise EaiError("no group is running", "start one with `%eai up -n 2`")
        if self._group.missing or not self._group.is_alive:
            raise self._died(self._group)
        if self._warm_up is not None:
            self._finish_warm_up(self._group, self._warm_up)
        if self._stragglers is not None:
            self._wait_for_stragglers(self._group, self._stragglers)
        self._group.settle()
        return self._group

    def _wait_for_stragglers(self, group: Group, cell: Cell) -> None:
        """Give a cell that was stopped the time to end.

        Its group is not ended if it does not: this costs the variables of all ranks, so only the
        user does that.
        """
        said: list[str] = []

        def say(words: str) -> None:
            said.append(words)
            self.watcher.progress(words)

        if wait_for_stragglers(group, cell, say):
            self._stragglers = None
            if said:  # else nobody has waited, and needs no answer
                self.watcher.progress(f"{name_ranks(cell.ranks)} stopped", final=True)
            return
        if not group.is_alive or group.missing:
            raise self._died(group)
        what = f"{name_ranks(cell.unfinished)} did not stop: the cell before still runs there"
        remedy = (
            "nothing is lost, run this cell again to wait longer; "
            "`%eai restart` ends the group, and with it the variables of all ranks"
        )
        raise EaiError(what, remedy)

    def _finish_warm_up(self, group: Group, warm_up: WarmUp) -> None:
        try:
            with explaining_rank_loss(group, self._died):
                found = warm_up.wait(self.watcher.progress)
        except remote_calls.REMOTE_ERRORS as error:
            cause = remote_calls.first_error(error)
            self.down()
            what = f"the ranks cannot start: {cause.ename}: {cause.evalue}"
            raise EaiError(what, "run `eai-notebook check`") from None
        self._warm_up = None
        self._note_ranks(found)
        me = socket.gethostname()
        with self._books.doing(REGISTRY):
            group.cover([info["pid"] for info in found if info["host"] == me])

    def _note_ranks(self, found: list[dict[str, Any]]) -> None:
        self.hosts = {info["rank"]: info["host"] for info in found}
        self.pids = {info["rank"]: info["pid"] for info in found}

    def _introduce(self, group: Group, found: list[dict[str, Any]]) -> None:
        """Show who the ranks are as soon as they say so; called in the client's thread."""
        if group is self._group:
            with self._books.doing(PANEL):
                start_times.note(self._start_kind("load"), time.time() - self._since)
            self._note_ranks(found)
            self.watcher.group_from(self.group_model)

    def _form_ring(self, group: Group, ranks: list[int], presses: DeferredInterrupt) -> None:
        """Form the ring on `ranks` if the last cell broke it or it spans others."""
        with explaining_rank_loss(group, self._died):
            formed = self._ring.form(group, ranks, presses, self.watcher.progress)
        if not formed:
            raise in_a_line(
                KeyboardInterrupt(),
                f"{name_ranks(ranks)} still form their ring; nothing is lost, the next cell waits "
                "for them; `%eai restart` ends the group, and with it the variables of all ranks",
            )

    def _died(self, group: Group) -> EaiError:
        """End a group that misses a rank, and return what to tell the user."""
        missing = name_missing(group, self.hosts)
        return self._lost(f"{group.death(missing)}; the group is gone")

    def _lost(self, what: str) -> EaiError:
        """End what is left of the group, and return what to tell the user."""
        self.down()
        self._set_state("lost", what)
        return EaiError(what, "start it again with `%eai restart`")

    def _set_state(self, state: str, words: str = "") -> None:
        self.state = state
        self._since = time.time()
        self._message = words
        self.watcher.group_from(self.group_model)

    def _words(self) -> str:
        if self._message:
            return self._message
        return {
            "down": "no group is running",
            "starting": f"{count_ranks(self.size)} starting",
            "up": f"{count_ranks(self.size)} up",
            "busy": f"a cell is running on {self.size} rank{'s' * (self.size > 1)}",
            "stopping": "the group is stopping",
        }.get(self.state, self.state)
