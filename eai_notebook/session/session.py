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
from eai_notebook.cluster.group import Group
from eai_notebook.cluster.group_start import start_group
from eai_notebook.cluster.launcher_registry import make_launcher
from eai_notebook.cluster.mpi_environment import unused_settings
from eai_notebook.cluster.rank_requests import UNREACHABLE
from eai_notebook.collective.backend_registry import expected_slowness
from eai_notebook.errors import EaiError
from eai_notebook.ledger.report import Report, report_record
from eai_notebook.ledger.run_record import RunRecord, list_runs, runs_folder
from eai_notebook.session import (
    job_stop,
    profile_request,
    rank_locations,
    remote_calls,
    stall_detector,
    trial_request,
    variables,
)
from eai_notebook.session.cell_runner import CellRunner
from eai_notebook.session.group_options import checked_wire, kept_entry
from eai_notebook.session.group_view import GroupView
from eai_notebook.session.growth import Growth, describe
from eai_notebook.session.guarded_watcher import GuardedWatcher
from eai_notebook.session.interrupts import DeferredInterrupt
from eai_notebook.session.observer import Watcher
from eai_notebook.session.rank_errors import in_a_line
from eai_notebook.session.rank_loss import explaining_rank_loss
from eai_notebook.session.rank_sets import checked_ranks, format_ranks, name_ranks
from eai_notebook.session.rank_status import LINES_SHOWN
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

    ``options`` say where the ranks run, by the names of `%eai up`'s options: ``hosts="h1:2,h2:2"``,
    for instance. ``launcher`` names the launcher, which an option selects in most cases.
    Everything raises `EaiError` with the remedy when it cannot be done, `RankError` when
    a rank's own code failed, and `KeyboardInterrupt` when the user stopped it.
    """

    def __init__(
        self,
        size: int | None = None,
        *,
        wire: str | None = None,
        launcher: str | None = None,
        watcher: Watcher | None = None,
        **options: Any,
    ) -> None:
        self.launcher = make_launcher(size, options, launcher)
        self._wire = checked_wire(wire)
        self.watcher = GuardedWatcher(watcher or Watcher())
        self._books = self.watcher.books
        self._keeper = RunRecorder(runs_folder(), self._books)
        self._view = GroupView(
            self.launcher.size, self.launcher.place, self.watcher, lambda: self._keeper.trace
        )
        self._cancelled = threading.Event()
        self._group: Group | None = None
        self._cells: CellRunner | None = None
        self._kept = False
        self._warm_up: WarmUp | None = None
        self._announced_slow = False
        self._setup: list[tuple[str, list[int] | None]] = []
        self._stop_watch: threading.Event | None = None

    @property
    def size(self) -> int:
        """How many ranks the group has, those counted that have died."""
        return self.launcher.size if self._group is None else self._group.size

    def __enter__(self) -> Self:
        """Start the group, unless one is attached to."""
        if self._group is None:
            self.up()
        return self

    def __exit__(self, *_: object) -> None:
        """End the group, or leave it if it is kept."""
        self._at_exit()

    @property
    def state(self) -> str:
        """One of down, starting, up, busy, stopping and lost."""
        return self._view.state

    @property
    def hosts(self) -> dict[int, str]:
        """The host of each rank; empty until the ranks have reported."""
        return self._view.hosts

    @property
    def pids(self) -> dict[int, int]:
        """The process of each rank on its host; empty until the ranks have reported."""
        return self._view.pids

    @property
    def runs(self) -> list[RunRecord]:
        """The runs recorded in this session, oldest first."""
        return self._keeper.records

    @property
    def setup_cells(self) -> list[tuple[str, list[int] | None]]:
        """The cells that a restart replays, each with its ranks or None for all."""
        return list(self._setup)

    @property
    def wire(self) -> str | None:
        """What gradients travel in where the optimizer does not say; None for the default."""
        return self._wire

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
            raise EaiError(what, "use it, or end it first with `%eai down`", code="group-up")
        self._cancelled.clear()
        self._view.begin_start()
        began = time.monotonic()
        try:
            self._bring_up(keep=keep)
            with self._books.doing(PANEL):
                self._view.note_start_time("start", time.monotonic() - began)
            local = self.launcher.name == "local"
            slow = expected_slowness(self.size) if local else None
            self._announced_slow = slow is not None
            notes = filter(None, [self.launcher.start_note(), unused_settings(), slow])
            self.watcher.progress(
                "; ".join([f"{self._view.words}, loading TensorFlow", *notes]), final=True
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

    def _bring_up(self, *, keep: bool) -> None:
        """Start the group and take it over; a press of Stop leaves all of it, or nothing."""
        self.launcher.prepare(self._view.progress)
        self._keeper.facts = self.launcher.facts()
        with DeferredInterrupt() as presses:
            self._group = group = start_group(
                self.launcher,
                self._view.progress,
                lambda: presses.take() or self._is_cancelled(),
            )
            self._kept = keep
            if keep:
                group.keep()
            words = "TensorFlow is loading on the ranks"
            self._take_over(group, words, remote_calls.warm_up, self._wire)

    @classmethod
    def attach(cls, name: str | None = None, *, watcher: Watcher | None = None) -> Session:
        """Return a session on a group that was kept, the only one there is by default.

        Its variables are as they were; its set-up cells come along. Raises `EaiError` if
        there is no such group, or if a kernel uses it now.
        """
        entry = kept_entry() if name is None else registry.find(name)
        session = cls(entry.size, watcher=watcher, launcher=entry.launcher, **entry.options)
        group = session._group = Group.attach(entry, session.launcher)
        session._kept = True
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
        self._view.set_state("down")

    def _take_over(self, group: Group, words: str, call: Any, *arguments: Any) -> None:
        """Use the group from now on; its ranks do `call` first, described by `words`."""
        atexit.register(self._at_exit)
        self._cells = cells = CellRunner(group, self._view, self.watcher, self._keeper, self._lost)
        if self.launcher.can_grow:
            say = partial(self.watcher.text, "stderr")
            cells.growth = Growth(
                group,
                lambda: list(self._setup),
                self._wire,
                lambda words: say(words + "\n"),
                self.watcher.progress,
            )
        if call is remote_calls.warm_up:  # which forms the ring on all ranks
            cells.ring.ranks = tuple(range(self.size))
        with explaining_rank_loss(group, cells.died):
            self._warm_up = WarmUp(group, words, call, *arguments)
        self._view.is_loading = True
        self._view.set_state("up")
        self._warm_up.then(partial(self._introduce, group))
        self._stop_watch = job_stop.watch(self.stop_training)

    def _at_exit(self) -> None:
        if self._kept:
            self.detach()
        else:
            self.down()

    def down(self) -> None:
        """End the group and everything that was started for it; harmless when it is down."""
        atexit.unregister(self._at_exit)
        if self._stop_watch is not None:
            self._stop_watch.set()
        group, self._group = self._group, None
        if group is not None:
            self._view.set_state("stopping")
            group.stop()
        self._cells, self._warm_up = None, None
        self._view.forget_ranks()
        self._view.set_state("down")

    def grow(self, count: int | None = None, *, after: float = 0.0) -> None:
        """Have `count` more ranks join an elastic group, from any thread.

        By default those are replaced that have died; without any, one more comes. They load
        TensorFlow and replay the set-up cells while the others go on. Those that find an elastic
        training join it at a step's end; others get the weights of the models, and come in.

        While a cell runs, or with `after` seconds, this returns at once.

        Raises:
            EaiError: There is no elastic group, or a rank could not start.
        """
        self._elastic_group()
        if not self.launcher.can_grow:
            raise EaiError(
                "ranks on other machines cannot be replaced while the others run",
                "go on with those that are left, or start a whole group with `%eai restart`",
                code="cannot-grow",
            )
        if after or self.state == "busy":
            work = partial(self._grow_beside, count, after)
            threading.Thread(target=work, name="eai-grow", daemon=True).start()
            return
        group, growth = self._ready_group(), self._growth()
        for number in growth.choose(count):
            growth.start(number)
        self._let_in(group)

    def _grow_beside(self, count: int | None, after: float) -> None:
        """Start ranks beside a cell: they join its training, or come in before the next one."""
        time.sleep(after)
        group, cells = self._group, self._cells
        if group is None or cells is None or cells.growth is None:
            return
        try:
            numbers = cells.growth.choose(count)
            group.joining.update(numbers)
            for number in numbers:
                newcomer = cells.growth.start(number)
                cells.growth.wait_at_door(newcomer, lambda: not cells.is_running)
        except EaiError as error:
            self.watcher.text("stderr", f"{error}\n")
        except UNREACHABLE:
            self.watcher.text("stderr", "a rank that was started died before it could join\n")

    def _growth(self) -> Growth:
        growth = self._ready_cells().growth
        assert growth is not None, "there is one with every elastic group"  # noqa: S101
        return growth

    def _let_in(self, group: Group) -> None:
        """Let in all newcomers that are ready; no cell runs."""
        cells = self._ready_cells()
        if cells.growth is None:
            return
        found = cells.growth.let_in(cells.ring.forget)
        for info in found:
            self._view.note_joined(info)
        if found:
            self._cover(group, found)
            self.watcher.progress(describe(found, len(group.live)), final=True)

    def _elastic_group(self) -> Group:
        group = self._group
        if group is None or not group.survives:
            raise EaiError(
                "no elastic group is running",
                "start one with `%eai up --elastic`",
                code="group-not-elastic",
            )
        return group

    def shrink(self, ranks: Sequence[int], *, after: float = 0.0) -> None:
        """Have `ranks` of an elastic group leave, from any thread, `after` some seconds.

        One that trains leaves at the end of its step; any other ends at once.

        Raises:
            EaiError: There is no elastic group, or no rank would be left.
        """
        group = self._elastic_group()
        chosen = checked_ranks(ranks, self.size)
        if not set(group.live) - set(chosen):
            raise EaiError(
                "no rank would be left", "end the group with `%eai down`", code="no-rank-left"
            )
        if after:
            timer = threading.Timer(after, group.ask_to_leave, [chosen])
            timer.daemon = True
            timer.start()
            return
        group.ask_to_leave(chosen)

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
        """End the group, start it again and replay the set-up cells.

        Of an elastic group only the ranks are replaced that have died; the others keep their
        variables.
        """
        group = self._group
        if self.launcher.can_grow and group is not None and group.survives and group.missing:
            self.grow()
            return
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
        live = self._ready_group().live
        chosen = live if ranks is None else checked_ranks(ranks, self.size)
        if gone := [rank for rank in chosen if rank not in live]:
            what = f"{name_ranks(gone)} {'has' if len(gone) == 1 else 'have'} died"
            remedy = f"choose from {format_ranks(live)}, or start a whole group with `%eai restart`"
            raise EaiError(what, remedy, code="rank-gone")
        self._ready_cells().run(code, chosen, patience)

    def pull(self, name: str, rank: int | None = None) -> Any:
        """Return variable `name` of `rank`, by default the first one; a Keras history comes as plain numbers.

        A Keras model comes as a model on the CPU, which loads TensorFlow here, with the
        optimizer that a `DistributedOptimizer` has wrapped.
        """
        group = self._ready_group()
        rank = group.live[0] if rank is None else rank
        return variables.pull(group, name, rank, self._ready_cells().died)

    def has(self, name: str) -> bool:
        """Return whether rank 0 has a variable `name`; False also if it cannot be asked now."""
        if self._group is None or self.state != "up" or self._warm_up:
            return False
        if not self._ready_cells().is_clear:
            return False
        return variables.has(self._group, name)

    def push(self, **values: Any) -> None:
        """Set variables on every rank, by name, to values that can be pickled."""
        variables.push(self._ready_group(), values, self._ready_cells().died)

    def diff(self, name: str) -> str:
        """Compare variable `name` of all ranks, and say where they first differ.

        Arrays, tensors, Keras variables, models with their optimizers, and containers of
        them are compared bit for bit, other values by their text.
        """
        return variables.diff(self._ready_group(), name, self._ready_cells().died)

    def diff_beside(self, name: str) -> str:
        """Compare variable `name` of the ranks, also while they run a cell; any thread may ask.

        Ranks that train compare it at the end of the same step: then what was asked is
        returned, and the outcome is shown with the state of the group.
        """
        asked = None if self._cells is None else self._cells.compare(name)
        return self.diff(name) if asked is None else asked

    def where(self) -> str:
        """Return what every rank is doing now, in words; any thread may ask, at any time."""
        if self._group is None:
            raise EaiError(
                "no group is running", "start one with `%eai up`", code="group-not-running"
            )
        ranks = self._group.live
        return rank_locations.describe_locations(
            ranks, self._group.where(ranks, rank_locations.PATIENCE_S)
        )

    def listening(self) -> str:
        """Return which programs of the group listen where on this machine; empty if none does."""
        return "" if self._group is None else listening.of_group(self._group.entry)

    def log(self, rank: int | None, most: int = LINES_SHOWN) -> str:
        """Return the latest lines that a rank printed, at most `most`; None is all ranks."""
        return self._view.pulse.log(rank, most)

    def trace(self, steps: int) -> str:
        """Have the ranks record `steps` steps in depth; any thread may ask, at any time.

        Of the run that goes on, or else of the next one. What they recorded is written
        into the run's folder, and its summary is shown with the output of its cell. Returns what was asked.
        """
        if self._group is None:
            raise EaiError(
                "no group is running", "start one with `%eai up`", code="group-not-running"
            )
        if self.state == "up":
            self._ready_group()  # a rank that still loads TensorFlow cannot answer
        return profile_request.request_profile(self._group, steps)

    def try_change(self, change: dict[str, Any]) -> str:
        """Have a training try a change on its own steps, and keep it only if it helps.

        It is the one that goes on, if one does, or the next one; returns which, in words. Any thread
        may ask, at any time.

        Args:
            change: What `Remedy.change` of `eai_notebook.advice.advise` says.
        """
        if self._group is not None and self.state == "busy":
            return trial_request.request_trial_beside(self._group, change)
        return trial_request.request_trial(self._ready_group(), change, self._ready_cells().died)

    def interrupt(self) -> None:
        """Interrupt whatever the ranks are running."""
        if self._group is not None:
            self._group.interrupt(range(self.size))

    def stop_training(self) -> bool:
        """Have the training that runs write a checkpoint and end, from any thread.

        Its cell then raises `TrainingStopped`, and goes on from the checkpoint when it is run again.
        Without a training that has a checkpoint, the next one ends so, at its first step. Returns
        whether all ranks have heard it: those that still load TensorFlow cannot.
        """
        group, heard = self._group, []
        with self._books.doing(PANEL):
            if group is not None:
                heard.append(group.ask_to_stop(job_stop.PATIENCE_S))
        return any(heard)

    def report(self, run: RunRecord | None = None) -> Report:
        """Return the report on `run`, the latest one by default."""
        return report_record(run or self.latest_run())

    def latest_run(self) -> RunRecord:
        """Return the record of the latest run: of this session or, without one, in its folder.

        Raises:
            EaiError: There is none.
        """
        if self._keeper.records:
            return self._keeper.records[-1]
        if found := list_runs(self._keeper.root):
            return RunRecord(found[0])
        raise EaiError(
            "no run is recorded yet", "train something in a %%distributed cell", code="no-run"
        )

    def group_model(self) -> dict[str, Any]:
        """Return the state of the group as the panel's group model."""
        return self._view.model()

    # -- the state of the group ---------------------------------------------------------

    def _ready_group(self) -> Group:
        """Return the group with its ranks warmed up, or raise why there is none."""
        if self._group is None:
            raise EaiError(
                "no group is running", "start one with `%eai up -n 2`", code="group-not-running"
            )
        cells = self._ready_cells()
        missing = set(self._group.missing)
        if missing or not self._group.is_alive:
            if not self._group.survives or missing - self._view.gone - self._group.leaving:
                raise cells.died()
            self._view.note_gone(missing)
        if self._warm_up is not None:
            self._finish_warm_up(self._group, self._warm_up)
        cells.wait_for_stragglers()
        cells.show_notices()
        self._group.settle()
        self._let_in(self._group)
        return self._group

    def _ready_cells(self) -> CellRunner:
        assert self._cells is not None, "there is one with every group"  # noqa: S101
        return self._cells

    def _finish_warm_up(self, group: Group, warm_up: WarmUp) -> None:
        try:
            with explaining_rank_loss(group, self._ready_cells().died):
                found = warm_up.wait(self.watcher.progress)
        except remote_calls.REMOTE_ERRORS as error:
            cause = remote_calls.first_error(error)
            self.down()
            what = f"the ranks cannot start: {cause.ename}: {cause.evalue}"
            raise EaiError(what, "run `eai-notebook check`", code="ranks-not-ready") from None
        self._warm_up = None
        self._view.note_ranks(found)
        slow = next((info["notice"] for info in found if info.get("notice")), None)
        if slow is not None and not self._announced_slow:
            self._announced_slow = True
            self.watcher.progress(slow, final=True)
        self._cover(group, found)

    def _cover(self, group: Group, found: list[dict[str, Any]]) -> None:
        """Put ranks of this machine under the lease."""
        me = socket.gethostname()
        with self._books.doing(REGISTRY):
            group.cover([info["pid"] for info in found if info["host"] == me])

    def _introduce(self, group: Group, found: list[dict[str, Any]]) -> None:
        """Show who the ranks are as soon as they say so; called in the client's thread."""
        if group is self._group:
            with self._books.doing(PANEL):
                self._view.note_start_time("load")
            self._view.note_ranks(found)
            self._view.show()

    def _lost(self, what: str) -> EaiError:
        """End the rest of the group, and return the error to raise."""
        self.down()
        self._view.set_state("lost", what)
        return EaiError(what, "start it again with `%eai restart`", code="group-lost")
