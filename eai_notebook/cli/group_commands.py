"""`eai-notebook list`, `where` and `reclaim`: the groups on this machine, from any terminal."""

from __future__ import annotations

from typing import Annotated

import typer

from eai_notebook.cluster import registry
from eai_notebook.cluster.rank_requests import ask_where_of
from eai_notebook.errors import EaiError
from eai_notebook.session import rank_locations
from eai_notebook.terminal import console

ORPHANED = ("left behind", "ended")


def list_groups() -> None:
    """List the groups of ranks on this machine: who uses them, and which are left over."""
    console.out.print(registry.table(registry.entries()), highlight=False, markup=False)


def where(
    name: Annotated[
        str | None, typer.Argument(metavar="[GROUP]", help="as `list` shows it (default: the one)")
    ] = None,
) -> None:
    """Show what every rank of a group is doing now, also while a cell runs."""
    entry = registry.find(name) if name else _only_one()
    found = ask_where_of(entry, rank_locations.PATIENCE_S)
    console.out.print(
        rank_locations.describe_locations(range(entry.size), found), highlight=False, markup=False
    )


def reclaim(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[GROUP]...", help="end these, also one that was kept"),
    ] = None,
    *,
    force: Annotated[bool, typer.Option(help="End a group even if a kernel uses it.")] = False,
) -> None:
    """End the groups that are left over, or the named ones.

    Processes are identified by the pid and start time that were recorded on this host, never by
    name.
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
        console.out.print("no group is left over")


def _check(entry: registry.Entry, *, force: bool) -> None:
    if entry.state == "elsewhere":
        what = f"group {entry.name} was started on {entry.host}, not in this machine or container"
        raise EaiError(
            what,
            f"reclaim it there; if that machine no longer exists, remove {entry.folder}",
            code="group-elsewhere",
        )
    if entry.owner is not None and entry.is_used and not force:
        what = f"process {entry.owner[0]} uses group {entry.name}"
        raise EaiError(what, "end it there with `%eai down`, or add --force", code="group-in-use")


def _only_one() -> registry.Entry:
    found = [entry for entry in registry.entries() if entry.state in ("in use", "kept")]
    if not found:
        raise EaiError("no group is running", "start one with `%eai up`", code="group-not-running")
    if len(found) > 1:
        names = ", ".join(entry.name for entry in found)
        raise EaiError(
            f"{len(found)} groups are running: {names}", "name one of them", code="group-ambiguous"
        )
    return found[0]
