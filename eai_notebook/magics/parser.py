"""Parse and complete the lines of `%eai` and `%%distributed`."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from IPython.core.magic_arguments import MagicArgumentParser

from eai_notebook.compression.wire_registry import wire_names

if TYPE_CHECKING:
    from collections.abc import Sequence

COMMANDS = {
    "up": "start a group of ranks",
    "status": "say what is running",
    "where": "say what every rank is doing now",
    "down": "end the group",
    "restart": "end the group, start it again, replay the set-up cells",
    "list": "show all groups of yours on this machine",
    "attach": "use a group that was kept when its notebook ended",
    "pull": "bring a variable from a rank into the notebook",
    "push": "set a notebook variable on every rank",
    "diff": "compare a variable across the ranks",
    "trace": "record some steps in depth: TensorFlow, Horovod and the ledger in one file",
    "report": "print the ledger of the latest run, and the verdict",
}


class LineParser(MagicArgumentParser):
    """Splits the line as a shell does: quotes hold a path with a space together."""

    def parse_argstring(self, argstring: str, *, partial: bool = False) -> Any:
        """Return the arguments in `argstring`; raises `UsageError` if it cannot be split."""
        try:
            words = shlex.split(argstring)
        except ValueError as error:
            self.error(f"{error} in `{argstring}`: close it, or put a \\ before it")
        return self.parse_known_args(words) if partial else self.parse_args(words)


def make_parser() -> LineParser:
    """Return the parser of the line."""
    parser = LineParser(prog="eai", add_help=True)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    known = {
        name: commands.add_parser(name, help=words, description=words, add_help=True)
        for name, words in COMMANDS.items()
    }
    up = known["up"]
    up.add_argument(
        "-n",
        dest="size",
        type=int,
        metavar="N",
        help="how many ranks (default: one a core, 2 to 4)",
    )
    up.add_argument(
        "--hosts", metavar="HOSTS", help="on other machines by ssh: h1:2,h2:2, or a hostfile"
    )
    up.add_argument(
        "--interface", metavar="NAME", help="this machine's interface or network that they reach"
    )
    up.add_argument(
        "--measure-again", action="store_true", help="measure the link anew, not as kept"
    )
    up.add_argument(
        "--mode",
        choices=("ring", "ps"),
        default="ring",
        help="exchange in a ring, or on parameter servers, to compare with (default: ring)",
    )
    up.add_argument(
        "--servers", type=int, metavar="K", default=1, help="ranks that hold weights (--mode ps)"
    )
    up.add_argument(
        "--apart", action="store_true", help="servers are the last ranks, and do not compute"
    )
    up.add_argument(
        "--asynchronous", action="store_true", help="workers do not wait for each other"
    )
    up.add_argument(
        "--wire",
        choices=wire_names(),
        help="what gradients travel in where the optimizer does not say (default: fp32)",
    )
    up.add_argument(
        "--keep", action="store_true", help="leave it running when the notebook ends, for `attach`"
    )
    known["attach"].add_argument(
        "name", metavar="NAME", nargs="?", help="the group, as `list` shows it (default: the one)"
    )
    pull = known["pull"]
    pull.add_argument("name", metavar="NAME", help="the variable, on the rank and then here")
    pull.add_argument("--rank", type=int, default=0, help="the rank to take it from (default: 0)")
    known["push"].add_argument("names", metavar="NAME", nargs="+", help="notebook variables")
    known["diff"].add_argument("name", metavar="NAME", help="an array, a model, any variable")
    known["trace"].add_argument(
        "steps", metavar="STEPS", nargs="?", type=int, default=20, help="how many (default: 20)"
    )
    known["report"].add_argument(
        "run", metavar="FOLDER", nargs="*", help="a run record (default: the latest run)"
    )
    return parser


def complete_eai(_: Any, event: Any) -> list[str]:
    """Return what may stand after `%eai`, for the tab key."""
    _, _, typed = event.line.partition("%eai ")
    command, space, _ = typed.lstrip().partition(" ")
    if not space:
        return list(COMMANDS)
    return _flags(command)


def complete_distributed(_: Any, __: Any) -> list[str]:
    """Return what may stand after `%%distributed`."""
    return ["--patience", "--ranks", "--restart", "--setup"]


def _flags(command: str) -> list[str]:
    """Return the options of `command`, read off its parser so that none is forgotten."""
    actions: Sequence[Any] = PARSER._actions  # noqa: SLF001  # argparse has no public list
    subparsers = next(action.choices for action in actions if action.dest == "command")
    if command not in subparsers:
        return []
    return [
        flag
        for action in subparsers[command]._actions  # noqa: SLF001
        for flag in action.option_strings
        if flag not in ("-h", "--help")
    ]


PARSER = make_parser()
