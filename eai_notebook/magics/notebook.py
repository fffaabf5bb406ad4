"""The magics `%eai` and `%%distributed`."""

from __future__ import annotations

import contextlib
import os
import signal
from ast import PyCF_ALLOW_TOP_LEVEL_AWAIT
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from IPython.core.error import UsageError
from IPython.core.magic import Magics, cell_magic, line_magic, magics_class
from IPython.core.magic_arguments import argument, magic_arguments, parse_argstring

from eai_notebook.advice.advise import advice_model, advise_record, remedy
from eai_notebook.advice.trial_score import score
from eai_notebook.cluster import registry
from eai_notebook.cluster.launcher_registry import launcher_options
from eai_notebook.cluster.machine_capacity import capacity_for_ranks
from eai_notebook.display.live_run import display, in_notebook
from eai_notebook.display.panel_channel import PanelChannel
from eai_notebook.display.report_html import report_html
from eai_notebook.errors import EaiError
from eai_notebook.forecast import receipt
from eai_notebook.forecast.asked import rank_numbers, rate_of
from eai_notebook.forecast.scaling_figure import draw
from eai_notebook.forecast.step_forecast import Scenario
from eai_notebook.jobs.submit import job_table, submitted_cells
from eai_notebook.ledger.run_record import RunRecord
from eai_notebook.magics.notebook_observer import NotebookWatcher
from eai_notebook.magics.parser import overview, parse
from eai_notebook.session import Session, stall_detector
from eai_notebook.session.group_override import group_override
from eai_notebook.session.rank_errors import in_a_line
from eai_notebook.session.rank_sets import parse_ranks
from eai_notebook.session.rank_status import LINES_SHOWN

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Iterator

    from IPython.core.interactiveshell import InteractiveShell


@magics_class
class EaiMagics(Magics):
    """Holds the notebook's one session."""

    def __init__(self, shell: InteractiveShell) -> None:
        super().__init__(shell=shell)
        self._shell = shell
        self.session: Session | None = None
        self._panel = PanelChannel(self._on_panel_command)
        self._watcher = NotebookWatcher(self._panel)

    @line_magic
    def eai(self, line: str) -> None:
        """Run a line of `%eai`; users see the overview instead of this docstring."""
        try:
            arguments = parse(line)
        except SystemExit:  # --help has been printed
            return
        if arguments.command is None:
            print(overview())
            return
        with self._stopped_in_a_line():
            getattr(self, f"_{arguments.command}")(arguments)

    eai.__doc__ = overview()  # what `%eai?` shows

    @magic_arguments()
    @argument(
        "-r", "--ranks", metavar="RANKS", help="run on these ranks only, as in 0,2-3 (default: all)"
    )
    @argument("-s", "--setup", action="store_true", help="replay this cell after `%%eai restart`")
    @argument(
        "--restart",
        action="store_true",
        help="if a rank dies, start the group again and run this cell once more",
    )
    @argument(
        "--patience",
        type=float,
        metavar="S",
        default=stall_detector.PATIENCE_S,
        help="seconds that ranks wait for a peer that is not expected to come (default: 60)",
    )
    @cell_magic
    def distributed(self, line: str, cell: str) -> None:
        """Run the cell on all ranks, with live output and the ledger below it.

        Ranks keep their variables from cell to cell. If a rank raises, the others are released,
        and the cell ends with that rank's error. If no group is running, a local one is started.
        """
        try:
            arguments = parse_argstring(self.distributed, line)
        except UsageError as error:
            raise EaiError(
                f"%%distributed: {error}",
                "`%%distributed?` lists its options",
                code="line-invalid",
            ) from None
        _check_syntax(self._shell, cell)
        with self._stopped_in_a_line():
            session = self.session
            if session is None or session.state == "down":
                session = self._start(None)
            ranks = parse_ranks(arguments.ranks, session.size) if arguments.ranks else None
            session.run(
                cell,
                ranks,
                setup=arguments.setup,
                restart=arguments.restart,
                patience=arguments.patience,
            )

    def point_to_ranks(self, result: Any) -> None:
        """After a `NameError` in the notebook, point to the ranks if they have the variable."""
        error = getattr(result, "error_in_exec", None)
        name = getattr(error, "name", None) if type(error) is NameError else None
        if name and self.session is not None and self.session.has(name):
            print(f"`{name}` is a variable of the ranks: `%eai pull {name}` brings it here")

    # -- the commands of %eai -----------------------------------------------------------

    def _up(self, arguments: Namespace) -> None:
        where = {name: getattr(arguments, name) for name in launcher_options()}
        where["launcher"] = arguments.launcher
        if arguments.show:
            size, where = group_override().apply(arguments.size, where)
            print(Session(size, wire=arguments.wire, **where).launcher.describe())
            return
        session = self._start(arguments.size, keep=arguments.keep, wire=arguments.wire, **where)
        if arguments.mode == "ps":
            session.serve(
                arguments.servers, apart=arguments.apart, asynchronous=arguments.asynchronous
            )

    def _status(self, _: Namespace) -> None:
        if self.session is None:
            print("no group is running; start one with `%eai up`")
            return
        model = self.session.group_model()
        name = f" (group {self.session.name})" if self.session.name else ""
        print(model["message"] + name)
        for rank in model["ranks"]:
            print(f"  {_rank_line(rank)}")
        if listens := self.session.listening():
            print(f"  listening: {listens}")
        if self.session.is_up:
            for line in self.session.launcher.status():
                print(line)

    def _down(self, _: Namespace) -> None:
        if self.session is None or not self.session.is_up:
            print("no group is running")
            return
        self.session.down()
        print("the group is down")

    def _restart(self, _: Namespace) -> None:
        self._started_session().restart()

    def _grow(self, arguments: Namespace) -> None:
        self._started_session().grow(arguments.size, after=arguments.after)

    def _shrink(self, arguments: Namespace) -> None:
        session = self._started_session()
        ranks = parse_ranks(arguments.ranks, session.size)
        session.shrink(ranks, after=arguments.after)

    def _where(self, _: Namespace) -> None:
        print(self._started_session().where())

    def _trace(self, arguments: Namespace) -> None:
        print(self._started_session().trace(arguments.steps))

    def _list(self, _: Namespace) -> None:
        print(registry.table(registry.entries()))

    def _attach(self, arguments: Namespace) -> None:
        self._refuse_second_group()
        self.session = session = Session.attach(arguments.name, watcher=self._watcher)
        print(f"attached to group {session.name}: {session.size} ranks")

    def _diff(self, arguments: Namespace) -> None:
        print(self._started_session().diff(arguments.name))

    def _pull(self, arguments: Namespace) -> None:
        session = self._started_session()
        self._user_ns()[arguments.name] = session.pull(arguments.name, arguments.rank)

    def _push(self, arguments: Namespace) -> None:
        session, known = self._started_session(), self._user_ns()
        for name in arguments.names:
            if name not in known:
                raise EaiError(
                    f"the notebook has no variable {name}",
                    "name a variable of the notebook",
                    code="variable-unknown",
                )
        session.push(**{name: known[name] for name in arguments.names})

    def _report(self, arguments: Namespace) -> None:
        report = (self.session or Session()).report(_run_of(arguments))
        if in_notebook():
            display({"text/html": report_html(report), "text/plain": report.to_text()}, raw=True)
        else:
            print(report.to_text())

    def _advise(self, arguments: Namespace) -> None:
        run = _run_of(arguments) or (self.session or Session()).latest_run()
        print(advise_record(run).to_text())

    def _try(self, arguments: Namespace) -> None:
        """Arm a trial; without a number, say how those of all runs ended."""
        if arguments.number is None:
            print(score())
            return
        session = self._started_session()
        chosen = remedy(advise_record(session.latest_run()), arguments.number)
        print(f"{chosen.words}: {session.try_change(chosen.change())}")

    def _forecast(self, arguments: Namespace) -> None:
        """Print a forecast and keep its receipt; without ranks, compare earlier ones with the run."""
        run = _run_of(arguments) or (self.session or Session()).latest_run()
        if not arguments.ranks:
            lines = receipt.checked(run, run.path.parent)
            print("\n".join(lines) or "no forecast was made of this run: `%eai forecast -n 8,16`")
            return
        scenario = Scenario(rate_of(arguments.link), arguments.wire, arguments.strong)
        made = receipt.make(
            run, rank_numbers(arguments.ranks), scenario, rate_of(arguments.own_link)
        )
        receipt.keep(run, made)
        if arguments.csv:
            Path(arguments.csv).write_text(receipt.to_csv(made))
        if arguments.figure:
            draw(made, Path(arguments.figure))
        print(receipt.to_text(made))

    def _submit(self, arguments: Namespace) -> None:
        where = {name: getattr(arguments, name) for name in launcher_options()}
        inputs = self._shell.history_manager
        start = submitted_cells(
            list(inputs.input_hist_raw) if inputs is not None else [],
            arguments.cells,
            self._user_ns(),
            self.session,
            size=arguments.size,
            where=where,
            launcher=arguments.launcher,
            anyway=arguments.anyway,
        )
        out = None if arguments.out is None else Path(arguments.out)
        if arguments.show:
            print(start.describe(out))
            return
        job = start.make_job(out)
        title = start.submit(job)
        print(f"job {job.name}: {title}\nfolder: {job.folder}")
        print(
            f"`%eai jobs {job.name}` shows its state, `!eai-notebook jobs {job.name} --follow` its output"
        )

    def _jobs(self, arguments: Namespace) -> None:
        print(job_table(arguments.name))

    # -- the session --------------------------------------------------------------------

    @contextlib.contextmanager
    def _stopped_in_a_line(self) -> Iterator[None]:
        """Show an interrupt in one line, without the stack of the waiting kernel."""
        try:
            yield
        except KeyboardInterrupt as stop:
            state = "" if self.session is None else f"; {self.session.group_model()['message']}"
            raise in_a_line(stop, f"stopped{state}") from None

    def _start(
        self, size: int | None, *, keep: bool = False, wire: str | None = None, **where: Any
    ) -> Session:
        """Start a group of `size` ranks; refuse if one is up."""
        self._refuse_second_group()
        size, where = group_override().apply(size, where)
        # Assigned before it is up: an interrupt right after the start must not lose the group.
        self.session = session = Session(size, wire=wire, watcher=self._watcher, **where)
        session.up(keep=keep)
        if keep:
            print(f"kept as {session.name}: `%eai attach {session.name}` in another notebook")
        return session

    def _refuse_second_group(self) -> None:
        if self.session is not None and self.session.is_up:
            raise EaiError(
                f"a group of {self.session.size} ranks is already up",
                "use it, or end it first with `%eai down`",
                code="group-up",
            )

    def _started_session(self) -> Session:
        if self.session is None:
            raise EaiError(
                "no group is running", "start one with `%eai up`", code="group-not-running"
            )
        return self.session

    def _user_ns(self) -> dict[str, Any]:
        variables: dict[str, Any] = self._shell.user_ns
        return variables

    # -- the panel ----------------------------------------------------------------------

    def _on_panel_command(self, command: str, arguments: dict[str, Any]) -> Any:
        """Run a command of the panel; called in a thread while a cell may be running."""
        if command in self._QUESTIONS:
            return self._QUESTIONS[command](self, arguments)
        session = self.session
        if command == "cancel" and session is not None and session.state == "starting":
            session.cancel()
        elif command in ("interrupt", "cancel"):
            os.kill(os.getpid(), signal.SIGINT)
        elif command == "up":
            self._start(arguments.get("size"))
        elif command == "down" and session is not None:
            session.down()
        elif command == "grow" and session is not None:
            session.grow(arguments.get("size"))
        elif command == "shrink" and session is not None:
            session.shrink(arguments["ranks"])
        elif command == "restart" and session is not None:
            session.restart()
        return None

    def _log(self, arguments: dict[str, Any]) -> str:
        rank = None if arguments["rank"] == "all" else int(arguments["rank"])
        most = int(arguments.get("most", LINES_SHOWN))
        return self.session.log(rank, most) if self.session else ""

    def _try_remedy(self, arguments: dict[str, Any]) -> str:
        """Try a remedy that the panel has listed, of the run that it was listed for."""
        session = self._started_session()
        run = session.latest_run()
        if run.info.run != arguments["run"]:
            raise EaiError(
                "the list is of an earlier run", "press Advise again", code="remedy-unknown"
            )
        chosen = remedy(advise_record(run), int(arguments["number"]), str(arguments["words"]))
        return f"{chosen.words}: {session.try_change(chosen.change())}"

    _QUESTIONS: ClassVar[dict[str, Callable[[EaiMagics, dict[str, Any]], Any]]] = {
        "log": _log,
        "room": lambda *_: capacity_for_ranks(),
        "where": lambda self, _: self._started_session().where(),
        "report": lambda self, _: (self.session or Session()).report().model(),
        "advise": lambda self, _: advice_model((self.session or Session()).latest_run()),
        "try": _try_remedy,
        "deep": lambda self, asked: self._started_session().trace(int(asked["steps"])),
        "diff": lambda self, asked: self._started_session().diff_beside(str(asked["name"])),
        "traced": lambda self, _: _trace_file(self.session),
    }
    """Questions that the panel may ask while a cell runs; none changes the group."""


def _rank_line(rank: dict[str, Any]) -> str:
    """Say where a rank of a group's model is.

    Examples:
        >>> _rank_line({"rank": 2, "host": "h1", "pid": 77, "state": "up"})
        'rank 2  h1  pid 77'
        >>> _rank_line({"rank": 2, "host": "h1", "pid": 77, "state": "gone"})
        'rank 2  h1  gone'
    """
    which = "gone" if rank["state"] == "gone" else f"pid {rank['pid']}"
    return f"rank {rank['rank']}  {rank['host']}  {which}"


def _run_of(arguments: Namespace) -> RunRecord | None:
    """Return the run whose folder a line names; a path with a space needs no quotes there."""
    return RunRecord(Path(" ".join(arguments.run)).expanduser()) if arguments.run else None


def _trace_file(session: Session | None) -> dict[str, str]:
    """Return the latest trace as a file for the browser to save."""
    trace = session.latest_trace if session else None
    if trace is None:
        raise EaiError("no steps were traced yet", "press Trace during a run", code="no-trace")
    file = Path(trace["file"])
    return {"name": file.name, "type": "application/json", "text": file.read_text()}


def _check_syntax(shell: InteractiveShell, cell: str) -> None:
    """Refuse a cell with a syntax error before it reaches a rank."""
    try:
        compile(shell.transform_cell(cell), "<cell>", "exec", PyCF_ALLOW_TOP_LEVEL_AWAIT)
    except SyntaxError as error:
        line = (error.text or "").strip()
        what = f"{error.msg} in line {error.lineno} of the cell, `{line}`"
        raise EaiError(what, "correct it; no rank has run the cell", code="cell-syntax") from None
