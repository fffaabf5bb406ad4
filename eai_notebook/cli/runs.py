"""`eai-notebook runs`: the run records on disk, their sizes, and removing old ones."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from eai_notebook.ledger.retention import DAY_S, KEPT_BYTES, beyond, kept_runs, remove
from eai_notebook.ledger.run_record import runs_folder
from eai_notebook.terminal import console

_GB = 1e9


def runs(
    folder: Annotated[
        Path | None, typer.Argument(help="where the records are (default: .eai/runs, or EAI_RUNS)")
    ] = None,
    keep: Annotated[
        float, typer.Option(metavar="GB", min=0.0, help="keep the newest records up to this size")
    ] = KEPT_BYTES / _GB,
    days: Annotated[
        float | None, typer.Option(metavar="DAYS", min=0.0, help="and none older than this")
    ] = None,
    *,
    prune: Annotated[bool, typer.Option(help="Remove the records beyond these limits.")] = False,
) -> None:
    """List the run records with their sizes; with --prune remove those beyond the limits.

    A record that is being written is never removed.
    """
    root = folder or runs_folder()
    found = kept_runs(root)
    chosen = beyond(found, keep * _GB, days)
    now = time.time()
    for run in found:
        mark = " beyond the limit" if run in chosen else ""
        age = f"{(now - run.written) / DAY_S:.1f} d"
        line = f"{run.size / 1e6:10.1f} MB  {age:>8}  {run.state:<11} {run.path.name}{mark}"
        console.out.print(line, highlight=False, markup=False, soft_wrap=True)
    age = f" and {days:g} days" if days is not None else ""
    total = sum(run.size for run in found) / _GB
    text = f"{len(found)} runs in {root}, {total:.2f} GB; the limit is {keep:g} GB{age}"
    console.out.print(text, highlight=False, markup=False, soft_wrap=True)
    if prune:
        text = f"removed {len(chosen)} runs, {remove(chosen) / _GB:.2f} GB"
    elif chosen:
        size = sum(run.size for run in chosen) / _GB
        text = f"{len(chosen)} runs ({size:.2f} GB) are beyond it: `eai-notebook runs --prune`"
    else:
        return
    console.out.print(text, highlight=False, markup=False)
