"""`Session`: one group of ranks, the cells it runs and the runs it has recorded."""

from __future__ import annotations

import atexit
import time
from typing import TYPE_CHECKING, Any

from eai_notebook.cluster.group import Group
from eai_notebook.cluster.local import core_count
from eai_notebook.errors import EaiError
from eai_notebook.ledger.messages import Whereabouts
from eai_notebook.ledger.record import RunRecord, list_runs, runs_folder
from eai_notebook.ledger.report import Report, report_record
from eai_notebook.session import errands
from eai_notebook.session.cell import Cell, Event, RichCame, TextCame
from eai_notebook.session.course import Outcome, see_through
from eai_notebook.session.failure import interruption, root_cause
from eai_notebook.session.output import RankOutput
from eai_notebook.session.ranks import name_ranks
from eai_notebook.session.runs import RunKeeper
from eai_notebook.session.watcher import Watcher

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from typing_extensions import Self

LOCAL = "eai_notebook.cluster.local.LocalEngineSetLauncher"


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
        self, size: int | None = None, *, launcher: str = LOCAL, watcher: Watcher | None = None
    ) -> None:
        self.size = default_size() if size is None else size
        if self.size < 1:
            raise EaiError(f"a group of {self.size} ranks cannot be", "ask for 1 or more: `-n 2`")
        self.watcher = watcher or Watcher()
        self.state = "down"
        self._message = ""
        self.hosts: dict[int, str] = {}
        self.pids: dict[int, int] = {}
        self._launcher = launcher
        self._group: Group | None = None
        self._warm_up: Any = None
        self._ring: tuple[int, ...] | None = None  # the ranks the ring is formed on, if it is
        self._setup: list[tuple[str, list[int] | None]] = []
        self._keeper = RunKeeper(runs_folder())

    def __enter__(self) -> Self:
        """Start the group."""
        self.up()
        return self

    def __exit__(self, *_: object) -> None:
        """End the group."""
        self.down()

    @property
    def runs(self) -> list[RunRecord]:
        """The runs recorded in this session, oldest first."""
        return self._keeper.records

    @property
    def is_up(self) -> bool:
        """Whether there is a group to run cells on."""
        return self._group is not None

    def up(self) -> None:
        """Start the group; TensorFlow loads on its ranks while this returns."""
        if self._group is not None:
            what = f"a group of {self.size} is already up"
            raise EaiError(what, "use it, or end it first with `%eai down`")
        self._set_state("starting")
        try:
            self._group = Group.start(self.size, self._launcher, self.watcher.progress)
        except BaseException:
            self._set_state("down")
            raise
        atexit.register(self.down)
        everyone = self._group.view(range(self.size))
        self._warm_up = everyone.apply_async(errands.warm_up)
        self._set_state("up")
        self.watcher.progress(f"{self._words()}{_crowded(self.size)}", final=True)

    def down(self) -> None:
        """End the group and everything that was started for it; harmless when it is down."""
        atexit.unregister(self.down)
        group, self._group = self._group, None
        if group is not None:
            self._set_state("stopping")
            group.stop()
        self._ring, self._warm_up = None, None
        self.hosts, self.pids = {}, {}
        self._set_state("down")

    def restart(self) -> None:
        """End the group, start it again and replay the set-up cells."""
        self.down()
        self.up()
        for code, ranks in list(self._setup):
            self.run(code, ranks)

    def run(self, code: str, ranks: Sequence[int] | None = None, *, setup: bool = False) -> None:
        """Run `code` as a cell on `ranks` (all by default), and return when all have ended.

        A `setup` cell is replayed by `restart`. The ring spans `ranks` while it runs.
        Raises what a rank raised, the cause and not a consequence; the other ranks have
        then been released and keep their variables.
        """
        group = self._ready_group()
        chosen = list(range(self.size)) if ranks is None else list(ranks)
        self._form_ring(chosen)
        self._set_state("busy")
        cell = Cell(group, code, chosen, self.hosts)
        output = RankOutput(
            chosen, self.watcher.text, self._overflow_path(), prefixed=self.size > 1
        )
        try:
            outcome, why = see_through(
                group,
                cell,
                on_event=lambda event: self._pass_on(event, output),
                on_tick=lambda: self._tick(output),
                say=lambda words: self.watcher.text("stderr", words + "\n"),
            )
        finally:
            output.close()
            self._show_runs(ended=True)
        self._conclude(group, cell, outcome, why)
        if setup:
            self._setup.append((code, None if ranks is None else chosen))

    def pull(self, name: str, rank: int = 0) -> Any:
        """Return variable `name` of `rank`; a Keras history comes as plain numbers."""
        view = self._ready_group().view([rank])
        try:
            return view.apply_sync(errands.fetch, name)[0]
        except errands.REMOTE_ERRORS as error:
            cause = errands.first_error(error)
            if cause.ename == "NameError":
                raise EaiError(f"rank {rank} has no variable {name}", "set it in a cell") from None
            what = f"{name} cannot be sent from rank {rank} ({cause.evalue})"
            raise EaiError(what, "pull plain data or arrays") from None

    def push(self, **variables: Any) -> None:
        """Set `variables` on every rank, for values that can be pickled."""
        view = self._ready_group().view(range(self.size))
        try:
            view.push(variables, block=True)
        except (TypeError, AttributeError, ValueError) as error:
            names = ", ".join(variables)
            raise EaiError(f"{names} cannot be pickled ({error})", "push plain data") from error

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
            {"rank": rank, "host": self.hosts[rank], "pid": self.pids[rank], "state": self.state}
            for rank in sorted(self.hosts)
        ]
        return {"state": self.state, "size": self.size, "message": self._words(), "ranks": ranks}

    # -- the life of a cell -------------------------------------------------------------

    def _conclude(self, group: Group, cell: Cell, outcome: Outcome, why: str) -> None:
        """Raise what the cell came to, unless it ended well on every rank."""
        if outcome == "died":
            raise self._lost(f"{group.death(cell.first_missed())}; the group is gone")
        if outcome == "stuck":
            stuck = name_ranks(cell.unfinished)
            raise self._lost(f"{stuck} did not stop; the group was ended, its variables are lost")
        self._set_state("up")
        error = root_cause(list(cell.replies.values()))
        if error is not None:
            self._ring = None  # that rank has released it
        if outcome == "interrupted":
            raise interruption(cell.ranks)
        if outcome == "stalled":
            raise EaiError(f"{why}, and would wait for ever", "let every rank take part in it")
        if error is not None:
            raise error

    def _tick(self, output: RankOutput) -> None:
        output.flush()
        self._show_runs()

    def _pass_on(self, event: Event, output: RankOutput) -> None:
        if isinstance(event, TextCame):
            output.feed(event.rank, event.stream, event.text)
        elif isinstance(event, RichCame):
            self._show_rich(event, output)
        elif not isinstance(event.message, Whereabouts):
            self._keeper.take(event.message)

    def _show_rich(self, event: RichCame, output: RankOutput) -> None:
        data = event.content["data"]
        if set(data) == {"text/plain"}:  # so that equal values fold like equal lines
            output.feed(event.rank, "stdout", data["text/plain"] + "\n")
            return
        output.flush(everything=True)
        label = f"[{event.rank}] " if self.size > 1 else ""
        self.watcher.rich(label, event.content)

    def _show_runs(self, *, ended: bool = False) -> None:
        for view, final in self._keeper.views_due(ended=ended):
            self.watcher.run(view, final=final)

    # -- the state of the group ---------------------------------------------------------

    def _ready_group(self) -> Group:
        """Return the group with its ranks warmed up, or say why there is none."""
        if self._group is None:
            raise EaiError("no group is running", "start one with `%eai up -n 2`")
        if not self._group.is_alive:
            raise self._lost(f"{self._group.death()}; the group is gone")
        if self._warm_up is not None:
            self._finish_warm_up(self._group)
        return self._group

    def _finish_warm_up(self, group: Group) -> None:
        waiting, started = self._warm_up, time.monotonic()
        waited = not waiting.ready()
        try:
            while not waiting.ready():
                seconds = time.monotonic() - started
                self.watcher.progress(f"TensorFlow is loading on the ranks, {seconds:.0f} s")
                waiting.wait(0.5)
            found = waiting.get()
        except errands.REMOTE_ERRORS as error:
            cause = errands.first_error(error)
            self.down()
            what = f"the ranks cannot start: {cause.ename}: {cause.evalue}"
            raise EaiError(what, "run `eai-notebook check`") from None
        if waited:
            self.watcher.progress(f"TensorFlow is loaded on {self.size} ranks", final=True)
        self._warm_up = None
        self.hosts = {info["rank"]: info["host"] for info in found}
        self.pids = {info["rank"]: info["pid"] for info in found}
        self._ring = tuple(range(self.size))
        group.cover(list(self.pids.values()))

    def _form_ring(self, ranks: list[int]) -> None:
        """Form the ring on `ranks` if the last cell broke it or it spans others."""
        if self._ring == tuple(ranks):
            return
        group = self._ready_group()
        others = [rank for rank in self._ring or range(self.size) if rank not in ranks]
        if others:
            group.view(others).apply_sync(errands.leave_ring)
        group.view(ranks).apply_sync(errands.join_ring, ranks)
        self._ring = tuple(ranks)

    def _lost(self, what: str) -> EaiError:
        """End what is left of the group, and return what to tell the user."""
        self.down()
        self._set_state("lost", what)
        return EaiError(what, "start it again with `%eai restart`")

    def _set_state(self, state: str, words: str = "") -> None:
        self.state = state
        self._message = words
        self.watcher.group(self.group_model())

    def _words(self) -> str:
        if self._message:
            return self._message
        return {
            "down": "no group is running",
            "starting": f"{_ranks(self.size)} starting",
            "up": f"{_ranks(self.size)} up",
            "busy": f"a cell is running on {self.size} ranks",
            "stopping": "the group is stopping",
        }.get(self.state, self.state)

    def _overflow_path(self) -> Path:
        return self._keeper.root.parent / "logs" / f"cell-{time.time_ns() // 1_000_000}.log"


def default_size() -> int:
    """Return how many ranks a machine gets when nobody says: a rank a core, 2 to 4."""
    return max(2, min(4, core_count()))


def _ranks(size: int) -> str:
    return "1 rank is" if size == 1 else f"{size} ranks are"


def _crowded(size: int) -> str:
    """Warn of more ranks than cores: it works, and each of them runs slower."""
    cores = core_count()
    return f"; warning: they share {cores} core{'s' * (cores > 1)}" if size > cores else ""
