"""`eai-notebook runs`: the run records on disk, their sizes, and removing old ones."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from eai_notebook.ledger.retention import DAY_S, Limits, beyond, kept_runs, limits, prune
from eai_notebook.ledger.run_record import runs_folder
from eai_notebook.terminal import console

_GB = 1e9


def runs(
    folder: Annotated[
        Path | None, typer.Argument(help="where the records are (default: .eai/runs, or EAI_RUNS)")
    ] = None,
    keep: Annotated[
        float | None,
        typer.Option(
            metavar="GB", min=0.0, help="keep the newest up to this size (EAI_RUNS_GB: 10)"
        ),
    ] = None,
    days: Annotated[
        float | None,
        typer.Option(metavar="DAYS", min=0.0, help="and none older than this (EAI_RUNS_DAYS: 90)"),
    ] = None,
    *,
    now: Annotated[
        bool, typer.Option("--prune", help="Remove those beyond the limits now.")
    ] = False,
) -> None:
    """List the run records with their sizes, and which are beyond the limits.

    Those are removed when the next run begins, or now with --prune. A record that is being
    written, or is starred, is never removed.
    """
    root = folder or runs_folder()
    found = kept_runs(root)
    usual = limits()
    most = Limits(usual.size if keep is None else keep * _GB, usual.days if days is None else days)
    chosen = beyond(found, most)
    clock = time.time()
    for run in found:
        mark = " beyond the limit" if run in chosen else " starred" if run.starred else ""
        state = (
            "running" if run.is_open(clock) else "cut off" if run.state == "running" else run.state
        )
        age = f"{(clock - run.written) / DAY_S:.1f} d"
        line = f"{run.size / 1e6:10.1f} MB  {age:>8}  {state:<11} {run.path.name}{mark}"
        console.out.print(line, highlight=False, markup=False, soft_wrap=True)
    total = sum(run.size for run in found) / _GB
    text = f"{len(found)} runs in {root}, {total:.2f} GB; the limit is {most}"
    console.out.print(text, highlight=False, markup=False, soft_wrap=True)
    if now:
        text = prune(root, most) or "nothing is beyond it"
    elif chosen:
        size = sum(run.size for run in chosen) / _GB
        text = f"{len(chosen)} runs ({size:.2f} GB) are beyond it: `eai-notebook runs --prune`"
    else:
        return
    console.out.print(text, highlight=False, markup=False, soft_wrap=True)
