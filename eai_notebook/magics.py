"""The magics `%eai` and `%%distributed`: parse the line, call the session, show the result."""

from __future__ import annotations

import os
import signal
from ast import PyCF_ALLOW_TOP_LEVEL_AWAIT
from typing import TYPE_CHECKING, Any

from IPython.core.magic import Magics, cell_magic, line_magic, magics_class
from IPython.core.magic_arguments import (
    MagicArgumentParser,
    argument,
    magic_arguments,
    parse_argstring,
)
from IPython.display import DisplayHandle, display, publish_display_data

from eai_notebook.display import LiveRun
from eai_notebook.display.panel import PanelChannel
from eai_notebook.errors import EaiError
from eai_notebook.ledger.record import RunRecord
from eai_notebook.session import Session, Watcher
from eai_notebook.session.ranks import parse_ranks

if TYPE_CHECKING:
    from argparse import Namespace

    from IPython.core.interactiveshell import InteractiveShell

COMMANDS = {
    "up": "start a group of ranks",
    "status": "say what is running",
    "down": "end the group",
    "restart": "end the group, start it again, replay the set-up cells",
    "pull": "bring a variable from a rank into the notebook",
    "push": "set a notebook variable on every rank",
    "report": "print the ledger of the latest run, and the verdict",
}


class NotebookWatcher(Watcher):
    """Shows a session in a notebook: text and figures in the cell, the ledger live, the panel."""

    def __init__(self, panel: PanelChannel) -> None:
        self._panel = panel
        self._live: dict[str, LiveRun] = {}
        self._progress: DisplayHandle | None = None
        self._progress_words = ""

    def progress(self, words: str, *, final: bool = False) -> None:
        """Rewrite one line in place; a saved notebook keeps the last words only."""
        line = {"text/plain": words}
        if self._progress is None:
            self._progress = display(line, raw=True, display_id=True)
        elif words != self._progress_words:
            self._progress.update(line, raw=True)
        self._progress_words = words
        if final:
            self._progress = None

    def rich(self, label: str, content: dict[str, Any]) -> None:
        """Show a figure or a table below the ranks it comes from."""
        if label:
            self.text("stdout", f"{label}\n")
        publish_display_data(content["data"], content.get("metadata", {}))

    def group(self, model: dict[str, Any]) -> None:
        """Tell the panel."""
        self._panel.group(model)

    def run(self, view: dict[str, Any], *, final: bool) -> None:
        """Draw the ledger below the cell and in the panel."""
        run = view["run"]
        self._panel.run(view)
        if run["steps"] == 0:
            return
        if run["id"] not in self._live:
            self._live[run["id"]] = LiveRun(run["name"])
        live = self._live[run["id"]]
        if final:
            live.finish(view)
            del self._live[run["id"]]
        else:
            live.update(view)


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
        """Start, look at and end the group of ranks that `%%distributed` cells run on."""
        try:
            arguments = _PARSER.parse_argstring(line)
        except SystemExit:  # --help has been printed
            return
        if arguments.command is None:
            print(_PARSER.format_help())
            return
        getattr(self, f"_{arguments.command}")(arguments)

    @magic_arguments()
    @argument(
        "-r", "--ranks", metavar="RANKS", help="run on these ranks only, as in 0,2-3 (default: all)"
    )
    @argument("-s", "--setup", action="store_true", help="replay this cell after `%%eai restart`")
    @cell_magic
    def distributed(self, line: str, cell: str) -> None:
        """Run the cell on every rank at once, its output live, its ledger below it.

        The ranks keep their variables from cell to cell. If one of them raises, the
        others are released, and the cell ends with that rank's error. With no group
        running, a local one is started first.
        """
        arguments = parse_argstring(self.distributed, line)
        _check_syntax(self._shell, cell)
        session = self.session
        if session is None or session.state == "down":
            session = self._start(None)
        ranks = parse_ranks(arguments.ranks, session.size) if arguments.ranks else None
        session.run(cell, ranks, setup=arguments.setup)

    # -- the commands of %eai -----------------------------------------------------------

    def _up(self, arguments: Namespace) -> None:
        self._start(arguments.size)

    def _status(self, _: Namespace) -> None:
        if self.session is None:
            print("no group is running; start one with `%eai up`")
            return
        model = self.session.group_model()
        print(model["message"])
        for rank in model["ranks"]:
            print(f"  rank {rank['rank']}  {rank['host']}  pid {rank['pid']}")

    def _down(self, _: Namespace) -> None:
        if self.session is None or not self.session.is_up:
            print("no group is running")
            return
        self.session.down()
        print("the group is down")

    def _restart(self, _: Namespace) -> None:
        self._started_session().restart()

    def _pull(self, arguments: Namespace) -> None:
        session = self._started_session()
        self._user_ns()[arguments.name] = session.pull(arguments.name, arguments.rank)

    def _push(self, arguments: Namespace) -> None:
        session, known = self._started_session(), self._user_ns()
        for name in arguments.names:
            if name not in known:
                raise EaiError(f"there is no variable {name} here", "name one of the notebook's")
        session.push(**{name: known[name] for name in arguments.names})

    def _report(self, arguments: Namespace) -> None:
        run = RunRecord(arguments.run) if arguments.run else None
        print((self.session or Session()).report(run).to_text())

    # -- the session --------------------------------------------------------------------

    def _start(self, size: int | None) -> Session:
        """Start a group of `size` ranks, unless one is up: then say so."""
        if self.session is not None and self.session.is_up:
            raise EaiError(
                f"a group of {self.session.size} ranks is already up",
                "use it, or end it first with `%eai down`",
            )
        session = Session(size, watcher=self._watcher)
        session.up()
        self.session = session
        return session

    def _started_session(self) -> Session:
        if self.session is None:
            raise EaiError("no group is running", "start one with `%eai up`")
        return self.session

    def _user_ns(self) -> dict[str, Any]:
        variables: dict[str, Any] = self._shell.user_ns
        return variables

    # -- the panel ----------------------------------------------------------------------

    def _on_panel_command(self, command: str, arguments: dict[str, Any]) -> None:
        """Do what a button of the panel asks; called in a thread beside the running cell."""
        session = self.session
        if command == "interrupt":
            os.kill(os.getpid(), signal.SIGINT)
        elif command == "up":
            self._start(arguments.get("size"))
        elif command == "down" and session is not None:
            session.down()
        elif command == "restart" and session is not None:
            session.restart()


def register(shell: InteractiveShell) -> None:
    """Give `shell` the magics and their completion."""
    shell.register_magics(EaiMagics(shell))
    shell.set_hook("complete_command", _complete_eai, str_key="%eai")
    shell.set_hook("complete_command", _complete_distributed, str_key="%%distributed")


def _check_syntax(shell: InteractiveShell, cell: str) -> None:
    """Refuse a cell that is no Python, once, before any rank is bothered with it."""
    try:
        compile(shell.transform_cell(cell), "<cell>", "exec", PyCF_ALLOW_TOP_LEVEL_AWAIT)
    except SyntaxError as error:
        line = (error.text or "").strip()
        what = f"{error.msg} in line {error.lineno} of the cell, `{line}`"
        raise EaiError(what, "correct it; no rank has run anything") from None


def _complete_eai(_: Any, event: Any) -> list[str]:
    _, _, typed = event.line.partition("%eai ")
    command, space, _ = typed.lstrip().partition(" ")
    if not space:
        return list(COMMANDS)
    return {"up": ["-n"], "pull": ["--rank"]}.get(command, [])


def _complete_distributed(_: Any, __: Any) -> list[str]:
    return ["--ranks", "--setup"]


def _parser() -> MagicArgumentParser:
    parser = MagicArgumentParser(prog="eai", add_help=True)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")

    def command(name: str) -> MagicArgumentParser:
        words = COMMANDS[name]
        return commands.add_parser(name, help=words, description=words, add_help=True)

    command("up").add_argument(
        "-n",
        dest="size",
        type=int,
        metavar="N",
        help="how many ranks (default: one a core, 2 to 4)",
    )
    for name in ("status", "down", "restart"):
        command(name)
    pull = command("pull")
    pull.add_argument("name", metavar="NAME", help="the variable, on the rank and then here")
    pull.add_argument("--rank", type=int, default=0, help="the rank to take it from (default: 0)")
    command("push").add_argument("names", metavar="NAME", nargs="+", help="notebook variables")
    command("report").add_argument(
        "run", metavar="FOLDER", nargs="?", help="a run record (default: the latest run)"
    )
    return parser


_PARSER = _parser()
