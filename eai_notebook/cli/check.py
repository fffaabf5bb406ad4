"""`eai-notebook check`: can this machine train, and if not, what to do."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

import eai_notebook
from eai_notebook.cli import console
from eai_notebook.cli.checks import Finding, findings

_SIGNS = {"ok": "[green]ok[/]", "note": "[yellow]note[/]", "fail": "[bold red]fail[/]"}


def check(
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON instead of a table, for a script.")
    ] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="Do not try Horovod on two ranks (saves ten seconds).")
    ] = False,
) -> None:
    """Look this machine over: versions, ranks, cores, memory, GPUs, ports.

    Every line that is not in order carries its remedy. The exit code is 1 if training will
    not work here, 0 otherwise.
    """
    with console.err.status("looking this machine over"):
        found = list(findings(prove_horovod=not quick))
    if as_json:
        console.out.print_json(
            json.dumps(
                {
                    "version": eai_notebook.__version__,
                    "works": works(found),
                    "checks": [asdict(finding) for finding in found],
                }
            )
        )
    else:
        console.out.print(_table(found))
    raise typer.Exit(0 if works(found) else 1)


def works(found: Sequence[Finding]) -> bool:
    """Return whether nothing that training needs has failed."""
    return all(finding.state != "fail" for finding in found)


def _table(found: Sequence[Finding]) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column("check", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("found", overflow="fold")
    for finding in found:
        text = escape(finding.found)
        if finding.remedy:
            text += f"\n[yellow]-> {escape(finding.remedy)}[/]"
        table.add_row(finding.name, _SIGNS[finding.state], text)
    return table
