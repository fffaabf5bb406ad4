"""Parse and complete the lines of `%eai` and `%%distributed`."""

from __future__ import annotations

import difflib
import re
import shlex
from argparse import HelpFormatter
from typing import TYPE_CHECKING, Any, NoReturn

from IPython.core.completer import SimpleCompletion, context_matcher
from IPython.core.getipython import get_ipython
from IPython.core.magic_arguments import MagicArgumentParser

from eai_notebook.cluster.launcher_registry import launcher_names, launcher_options
from eai_notebook.compression.wire_registry import wire_names
from eai_notebook.errors import EaiError

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence

    from IPython.core.completer import CompletionContext, SimpleMatcherResult

    from eai_notebook.cluster.launcher import Option

COMMANDS = {
    "up": "start a group of ranks",
    "status": "show what is running",
    "where": "show what every rank is doing now",
    "down": "end the group",
    "restart": "end the group, start it again, replay the set-up cells",
    "grow": "start more ranks of an elastic group, or replace those that have died",
    "shrink": "have ranks of an elastic group leave, at the end of their step",
    "list": "show all groups of yours on this machine",
    "attach": "use a group that was kept when its notebook ended",
    "pull": "bring a variable from a rank into the notebook",
    "push": "set a notebook variable on every rank",
    "diff": "compare a variable across the ranks",
    "trace": "record some steps in depth: TensorFlow, Horovod and the ledger in one file",
    "report": "print the ledger of the latest run, and the verdict",
    "submit": "run the set-up cells and one cell as a job: here, on hosts or in a queue",
    "jobs": "show your jobs and their state",
    "advise": "list what to try against the losses of the latest run, and the expected gain",
    "try": "try an advised remedy in the next training, and keep it only if it helps",
    "forecast": "forecast the step on other numbers of ranks, from the latest run",
}


class _Parser(MagicArgumentParser):
    """Raises `EaiError` for an invalid line, with the correct form."""

    def error(self, message: str) -> NoReturn:
        """Raise the error for an invalid line."""
        raise _mistake(self.prog, message)


def _mistake(prog: str, message: str) -> EaiError:
    """Return the error for a message of argparse."""
    help_line = (
        f"`{prog} --help` lists its options" if prog != "%eai" else "`%eai?` lists the commands"
    )
    if found := re.match(r"argument COMMAND: invalid choice: '([^']*)'", message):
        near = difflib.get_close_matches(found[1], COMMANDS, 1)
        remedy = f"did you mean `%eai {near[0]}`?" if near else help_line
        return EaiError(f"unknown command `%eai {found[1]}`", remedy, code="line-invalid")
    if found := re.match(r"unrecognized arguments: (\S+)", message):
        near = difflib.get_close_matches(found[1], _flags(prog.rsplit(maxsplit=1)[-1]), 1)
        remedy = f"did you mean `{near[0]}`?" if near else help_line
        return EaiError(f"`{prog}` has no option `{found[1]}`", remedy, code="line-invalid")
    if found := re.match(r"argument ([^:]+): invalid (int|float) value: '([^']*)'", message):
        kind = {"int": "a whole number", "float": "a number"}[found[2]]
        return EaiError(
            f"{found[1]} takes {kind}, not `{found[3]}`", help_line, code="line-invalid"
        )
    if found := re.match(
        r"argument ([^:]+): invalid choice: '([^']*)' \(choose from (.*)\)", message
    ):
        choices = found[3].replace("'", "")
        return EaiError(
            f"{found[1]} cannot be `{found[2]}`", f"use one of {choices}", code="line-invalid"
        )
    if found := re.match(r"the following arguments are required: (.*)", message):
        return EaiError(f"`{prog}` needs {found[1]}", help_line, code="line-invalid")
    return EaiError(message.removeprefix("argument "), help_line, code="line-invalid")


def parse(line: str) -> Namespace:
    """Return the command and options of a line of `%eai`.

    Raises:
        EaiError: The line is invalid.

    Examples:
        >>> parse("up -n 3").size
        3
        >>> parse("upp -n 3")
        Traceback (most recent call last):
        eai_notebook.errors.EaiError: unknown command `%eai upp`: did you mean `%eai up`?
    """
    # Unknown options are reported for their command, whose options are known.
    arguments, rest = PARSER.parse_known_args(_words(line))
    if rest:
        command = f" {arguments.command}" if arguments.command else ""
        raise _mistake(f"%eai{command}", f"unrecognized arguments: {rest[0]}")
    return arguments


def _words(line: str) -> list[str]:
    """Split a line as a shell does, with quotes around a path with a space."""
    try:
        return shlex.split(line)
    except ValueError as error:
        what = f"{error} in `{line}`"
        raise EaiError(
            what, "close the quote, or put a \\ before it", code="line-invalid"
        ) from None


def make_parser() -> _Parser:
    """Return the parser of the line."""
    parser = _Parser(prog="%eai", add_help=True, formatter_class=HelpFormatter)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    known = {
        name: commands.add_parser(
            name, help=words, description=words, add_help=True, formatter_class=HelpFormatter
        )
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
    for option in launcher_options().values():
        _add_option(up, option)
    up.add_argument(
        "--launcher",
        choices=launcher_names(),
        help="where ranks run, if no other option says it (default: local)",
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
    up.add_argument(
        "--show", action="store_true", help="print what would be started, and start nothing"
    )
    known["attach"].add_argument(
        "name", metavar="NAME", nargs="?", help="the group, as `list` shows it (default: the one)"
    )
    pull = known["pull"]
    pull.add_argument("name", metavar="NAME", help="the variable, on the rank and then here")
    pull.add_argument("--rank", type=int, default=None, help="the rank that has it (default: 0)")
    known["grow"].add_argument(
        "-n",
        "--size",
        type=int,
        metavar="N",
        help="how many more (default: as many as have died, or 1)",
    )
    known["shrink"].add_argument("ranks", metavar="RANKS", help="the ranks that leave: `2,3`")
    for command in ("grow", "shrink"):
        known[command].add_argument(
            "--after",
            type=float,
            metavar="S",
            default=0.0,
            help="S seconds from now, also while a cell runs",
        )
    known["push"].add_argument("names", metavar="NAME", nargs="+", help="notebook variables")
    known["diff"].add_argument("name", metavar="NAME", help="an array, a model, any variable")
    known["trace"].add_argument(
        "steps", metavar="STEPS", nargs="?", type=int, default=20, help="how many (default: 20)"
    )
    known["try"].add_argument(
        "number",
        metavar="NUMBER",
        nargs="?",
        type=int,
        help="as `advise` lists it (default: score)",
    )
    ahead = known["forecast"]
    ahead.add_argument(
        "-n", "--ranks", metavar="N,...", default="", help="for so many ranks: 8,16,64"
    )
    ahead.add_argument("--link", metavar="RATE", help="with another link, as in 25Gbit")
    ahead.add_argument(
        "--own-link", metavar="RATE", help="what the run's own link carries, if unknown"
    )
    ahead.add_argument("--wire", choices=("fp32", "fp16", "bf16", "int8"), help="in another format")
    ahead.add_argument(
        "--strong", action="store_true", help="the batch of all ranks stays (default: of each rank)"
    )
    ahead.add_argument("--csv", metavar="FILE", help="write the table")
    ahead.add_argument("--figure", metavar="FILE", help="draw it: .png, .svg or .pdf")
    submit = known["submit"]
    submit.add_argument(
        "--cells",
        metavar="CELLS",
        help="their numbers, as in setup,3-5,12 (default: setup, and the last cell on the ranks)",
    )
    submit.add_argument(
        "-n", dest="size", type=int, metavar="N", help="how many ranks (default: the group's)"
    )
    for option in launcher_options().values():
        _add_option(submit, option)
    submit.add_argument("--launcher", choices=launcher_names(), help="where ranks run")
    submit.add_argument("--out", metavar="FOLDER", help="the job's folder (default: a new one)")
    submit.add_argument(
        "--anyway", action="store_true", help="submit although cells need what is not sent"
    )
    submit.add_argument("--show", action="store_true", help="print the script, and submit nothing")
    known["jobs"].add_argument("name", metavar="JOB", nargs="?", help="one job (default: all)")
    for name in ("report", "advise", "forecast"):
        known[name].add_argument(
            "run", metavar="FOLDER", nargs="*", help="a run record (default: the latest run)"
        )
    return parser


def _add_option(up: MagicArgumentParser, option: Option) -> None:
    """Add an option of a launcher to `%eai up`."""
    if option.flag:
        up.add_argument(option.text, dest=option.name, action="store_true", help=option.help)
        return
    bare: dict[str, Any] = {} if option.bare is None else {"nargs": "?", "const": option.bare}
    up.add_argument(
        option.text,
        dest=option.name,
        metavar=option.metavar,
        type=option.type,
        choices=option.choices,
        help=option.help,
        **bare,
    )


@context_matcher(identifier="eai", priority=100)  # type: ignore[untyped-decorator,unused-ignore]
def match_line(context: CompletionContext) -> SimpleMatcherResult:
    """Return the completions at the cursor of a line with one of these magics."""
    line = context.text_until_cursor.lstrip()
    word = "" if line[-1:].isspace() else line.split(" ")[-1]
    offered = [each for each in _offers(line, word) if each.text.startswith(word)]
    return {
        "completions": offered,
        "matched_fragment": word,
        "suppress": bool(offered),
        "do_not_suppress": set(),
        "ordered": True,
    }


def _offers(line: str, word: str) -> list[SimpleCompletion]:
    """Return all possible next words of a line, whatever its last word."""
    before = line.removesuffix(word).split()
    if before[:1] == ["%%distributed"]:
        return [SimpleCompletion(flag, type="option") for flag in DISTRIBUTED]
    if before[:1] != ["%eai"]:
        return []
    if len(before) == 1:
        return [SimpleCompletion(name, type="command") for name in COMMANDS]
    if before[1] == "push" and not word.startswith("-"):
        return [SimpleCompletion(name, type="instance") for name in _variables()]
    choices = _choices(before[1], before[-1])
    if choices:
        return [SimpleCompletion(value, type="value") for value in choices]
    return [SimpleCompletion(flag, type="option") for flag in _flags(before[1])]


DISTRIBUTED = ("--patience", "--ranks", "--restart", "--setup")
"""The options of `%%distributed`."""


def _variables() -> list[str]:
    """Return the names of the notebook's public variables."""
    shell: Any = get_ipython()
    return [] if shell is None else sorted(n for n in shell.user_ns if not n.startswith("_"))


def _choices(command: str, flag: str) -> Sequence[str]:
    """Return the choices of an option, if it has any."""
    return next(
        (tuple(a.choices) for a in _actions(command) if flag in a.option_strings and a.choices), ()
    )


def _flags(command: str) -> list[str]:
    """Return the options of `command` from its parser."""
    return [
        flag
        for action in _actions(command)
        for flag in action.option_strings
        if flag not in ("-h", "--help")
    ]


def _actions(command: str) -> Sequence[Any]:
    """Return the arguments of `command`; none for an unknown command."""
    actions: Sequence[Any] = PARSER._actions  # noqa: SLF001  # argparse has no public list
    subparsers = next(action.choices for action in actions if action.dest == "command")
    found: Sequence[Any] = subparsers[command]._actions if command in subparsers else ()  # noqa: SLF001
    return found


def overview() -> str:
    """Return all commands with their descriptions, as `%eai?` shows them."""
    wide = max(map(len, COMMANDS))
    lines = [f"    %eai {name:<{wide}}  {words}" for name, words in COMMANDS.items()]
    return (
        "Start, inspect and end the group of ranks that runs `%%distributed` cells.\n\n"
        + "\n".join(lines)
        + "\n\n`%eai COMMAND --help` lists the options of a command."
    )


PARSER = make_parser()
