"""What a rank answers beside its cell: a thread of its own serves the control channel."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from eai_notebook.engine import whereabouts

WHERE_REQUEST = "eai_where_request"


def install(kernel: Any, world_rank: int) -> None:
    """Have `kernel` answer, from now on, where this rank is."""

    def where(stream: Any, idents: Any, request: Any) -> None:
        found = whereabouts.look(world_rank, kernel.shell.user_ns)
        content = {"status": "ok", "where": None if found is None else asdict(found)}
        kernel.session.send(stream, "eai_where_reply", content, parent=request, ident=idents)

    kernel.control_handlers[WHERE_REQUEST] = where
