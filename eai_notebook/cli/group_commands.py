"""`eai-notebook list`, `where` and `reclaim`: the groups on this machine, from any terminal."""

from __future__ import annotations

from typing import Annotated

import typer

from eai_notebook.cluster import registry
from eai_notebook.cluster.rank_requests import ask_where_of
from eai_notebook.errors import EaiError
from eai_notebook.session import rank_locations as words
from eai_notebook.terminal import console

ORPHANED = ("left behind", "ended")


def list_groups() -> None:
    """Show the groups of ranks that were started here: who uses them, and which were left behind."""
    console.out.print(registry.table(registry.entries()), highlight=False, markup=False)


def where(
    name: Annotated[
        str | None, typer.Argument(metavar="[GROUP]", help="as `list` shows it (default: the one)")
    ] = None,
) -> None:
    """Say what every rank of a group is doing now, also while a cell runs."""
    entry = registry.find(name) if name else _only_one()
    found = ask_where_of(entry, words.PATIENCE_S)
    console.out.print(
        words.describe_locations(range(entry.size), found), highlight=False, markup=False
    )


def reclaim(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[GROUP]...", help="end these, also one that was kept"),
    ] = None,
    *,
    force: Annotated[bool, typer.Option(help="End a group although a kernel uses it.")] = False,
) -> None:
    """End the groups that were left behind, or those named.

    Processes are ended by the pid and start time that were recorded on this host, never
    by name.
    """
    chosen = [registry.find(name) for name in names or []]
    for entry in chosen:
        _check(entry, force=force)
    if not names:
        chosen = [entry for entry in registry.entries() if entry.state in ORPHANED]
    for entry in chosen:
        count = registry.reclaim(entry)
        plural = "" if count == 1 else "es"
        console.out.print(f"{entry.name}: {count} process{plural} ended", highlight=False)
    if not chosen:
        console.out.print("nothing was left behind")


def _check(entry: registry.Entry, *, force: bool) -> None:
    if entry.state == "elsewhere":
        what = f"group {entry.name} was started on {entry.host}, not in this machine or container"
        raise EaiError(what, f"reclaim it there; if that is gone for good, remove {entry.folder}")
    if entry.owner is not None and entry.is_used and not force:
        what = f"process {entry.owner[0]} uses group {entry.name}"
        raise EaiError(what, "end it there with `%eai down`, or add --force")


def _only_one() -> registry.Entry:
    found = [entry for entry in registry.entries() if entry.state in ("in use", "kept")]
    if len(found) != 1:
        names = ", ".join(entry.name for entry in found) or "none"
        raise EaiError(f"there is not one group but {names}", "name one, or start one")
    return found[0]
