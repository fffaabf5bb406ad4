"""Refuse `%eai` and `%%distributed` on ranks: they belong in the notebook, and are not there."""

from __future__ import annotations

from typing import Any, NoReturn

from eai_notebook.errors import EaiError


def refuse_eai(line: str = "") -> NoReturn:
    """Refuse ``%eai`` in a cell of the ranks."""
    raise EaiError(
        f"`%eai {line}`".rstrip(" `") + "` was run on a rank, and is a command of the notebook",
        "run it in a cell without %%distributed",
        code="on-ranks-already",
    )


def refuse_distributed(line: str = "", cell: str | None = None) -> NoReturn:  # noqa: ARG001
    """Refuse ``%%distributed`` in a cell of the ranks."""
    raise EaiError(
        "%%distributed was run on a rank: this cell is on the ranks already",
        "leave the line out",
        code="on-ranks-already",
    )


def install(shell: Any) -> None:
    """Refuse both from now on, with the remedy."""
    shell.register_magic_function(refuse_eai, "line", "eai")
    shell.register_magic_function(refuse_distributed, "line_cell", "distributed")
