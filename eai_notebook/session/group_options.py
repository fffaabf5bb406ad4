"""Validate the options of a new group and fill in defaults."""

from __future__ import annotations

from eai_notebook.cluster import registry
from eai_notebook.compression.wire_registry import check_wire
from eai_notebook.errors import EaiError


def checked_wire(wire: str | None) -> str | None:
    """Return the wire format, or refuse one that no optimizer would take."""
    return None if wire is None else check_wire(wire)


def kept_entry() -> registry.Entry:
    """Return the one group that waits for a kernel."""
    kept = [entry for entry in registry.entries() if entry.state == "kept"]
    if len(kept) == 1:
        return kept[0]
    if not kept:
        raise EaiError(
            "no group was kept", "start one with `%eai up --keep`", code="group-not-kept"
        )
    names = ", ".join(entry.name for entry in kept)
    what = f"{len(kept)} groups were kept: {names}"
    raise EaiError(what, "name one: `%eai attach NAME`", code="group-ambiguous")
