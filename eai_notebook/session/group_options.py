"""Validate the options of a new group and fill in defaults."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eai_notebook.cluster import registry
from eai_notebook.cluster.launchers.local import core_count
from eai_notebook.compression.wire_registry import check_wire
from eai_notebook.errors import EaiError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eai_notebook.cluster.hostfile import Host


def group_size(size: int | None, hosts: Sequence[Host]) -> int:
    """Return how many ranks there are, as asked, by the hosts' slots, or by default."""
    if not hosts:
        return default_size() if size is None else size
    slots = sum(host.slots for host in hosts)
    if size is not None and size != slots:
        what = f"{size} ranks were asked for, but the hosts have {slots} slots"
        raise EaiError(what, "leave the number out, or change the slots: `h1:2,h2:2`")
    return slots


def checked_wire(wire: str | None) -> str | None:
    """Return the wire format, or refuse one that no optimizer would take."""
    return None if wire is None else check_wire(wire)


def default_size() -> int:
    """Return how many ranks a machine gets when nobody says: a rank a core, 2 to 4."""
    return max(2, min(4, core_count()))


def crowded(size: int) -> str:
    """Warn of more ranks than cores: it works, and each of them runs slower."""
    cores = core_count()
    return f"; warning: they share {cores} core{'s' * (cores > 1)}" if size > cores else ""


def kept_entry() -> registry.Entry:
    """Return the one group that waits for a kernel."""
    kept = [entry for entry in registry.entries() if entry.state == "kept"]
    if len(kept) == 1:
        return kept[0]
    if not kept:
        raise EaiError("no group was kept", "start one with `%eai up --keep`")
    names = ", ".join(entry.name for entry in kept)
    raise EaiError(f"{len(kept)} groups were kept: {names}", "name one: `%eai attach NAME`")
