"""The `eai-notebook` command line: its commands and exit codes.

Each command lives in its own module; this one only names them and turns an `EaiError`
into one line on stderr and exit code 1.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

import eai_notebook
from eai_notebook.cli.check import check
from eai_notebook.cli.command_app import CommandApp
from eai_notebook.cli.convert import convert
from eai_notebook.cli.demo import demo
from eai_notebook.cli.group_commands import list_groups, reclaim, where
from eai_notebook.cli.install_horovod import install_horovod
from eai_notebook.cli.kube_commands import kube
from eai_notebook.cli.make_data import make_data
from eai_notebook.cli.run_job import RunCommand, jobs, run
from eai_notebook.cli.runs import runs
from eai_notebook.errors import EaiError
from eai_notebook.terminal import console

INTERRUPTED = 130
"""The exit code shells give a command that was stopped with Ctrl-C."""

app = CommandApp(
    name="eai-notebook",
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_show_locals=False,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        console.out.print(f"eai-notebook {eai_notebook.__version__}", highlight=False)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Train on many ranks from a notebook, and see where each step's time goes."""


app.command("install-horovod")(install_horovod)
app.command("check")(check)
app.add_typer(make_data, name="make-data")
app.command("convert")(convert)
app.command("demo")(demo)
app.command("list")(list_groups)
app.command("where")(where)
app.command("reclaim")(reclaim)
app.command("runs")(runs)
app.command("run", cls=RunCommand)(run)
app.command("jobs")(jobs)
app.add_typer(kube, name="kube")


def main() -> None:
    """Run the command line and exit with its code; an `EaiError` is printed as one line."""
    try:
        app()
    except EaiError as error:
        console.fail(str(error), error.code)
        sys.exit(1)
    except KeyboardInterrupt:
        console.fail("interrupted")
        sys.exit(INTERRUPTED)
