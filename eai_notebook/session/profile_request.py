"""Ask all ranks to profile the same few steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from eai_notebook.errors import EaiError
from eai_notebook.session.rank_answers import PATIENCE_S, require_all
from eai_notebook.session.rank_sets import name_ranks

if TYPE_CHECKING:
    from eai_notebook.cluster.group import Group

MOST_STEPS: Final = 1000
"""A profile of more fills the ranks' memory."""


def request_profile(group: Group, steps: int) -> str:
    """Have all ranks of `group` record `steps` steps; return which, in words.

    Raises:
        EaiError: Not a number of steps that can be recorded, or a rank does not answer.

    """
    if not 1 <= steps <= MOST_STEPS:
        what = f"{steps} steps cannot be recorded in depth"
        raise EaiError(what, f"ask for 1 to {MOST_STEPS}: `%eai trace 20`", code="trace-steps")
    ranks = range(group.size)
    paces = [found["pace"] for found in _asked(group, {})]
    under_way = [pace for pace in paces if pace is not None]
    first = max((taken for taken, _ in under_way), default=0)
    first += max((ahead for _, ahead in under_way), default=0)
    _asked(group, {"first": first, "steps": steps})
    if not under_way:
        return f"{steps} steps of the next run on {name_ranks(ranks)} will be recorded in depth"
    return f"{steps} steps from step {first} on will be recorded in depth on {name_ranks(ranks)}"


def _asked(group: Group, what: dict[str, int]) -> list[dict[str, Any]]:
    """Return the answers of all ranks."""
    ranks = range(group.size)
    found = group.ask_trace(ranks, what, PATIENCE_S)
    require_all(found, ranks)
    return [found[rank] for rank in ranks]
