"""Answers of ranks that were asked beside their cells, all of them or an error."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from eai_notebook.errors import EaiError
from eai_notebook.session.rank_sets import name_ranks

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PATIENCE_S: Final = 5.0
"""How long a rank may take to answer; one inside C code that keeps Python's lock cannot."""


def require_all(found: Mapping[int, dict[str, Any]], ranks: Sequence[int]) -> None:
    """Check that each of `ranks` is among those that have answered.

    Raises:
        EaiError: One is not.
    """
    silent = [rank for rank in ranks if rank not in found]
    if silent:
        raise EaiError(
            f"{name_ranks(silent)}: no answer",
            "try again between two long operations",
            code="rank-silent",
        )
