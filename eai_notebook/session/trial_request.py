"""Have all ranks try a change, in the training that goes on or in their next one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from eai_notebook.errors import EaiError
from eai_notebook.session import remote_calls
from eai_notebook.session.rank_answers import PATIENCE_S
from eai_notebook.session.rank_loss import explaining_rank_loss

if TYPE_CHECKING:
    from collections.abc import Callable

    from eai_notebook.cluster.group import Group

NOW: Final = "the training that goes on tries it within seconds, and keeps it only if it helps"
NEXT: Final = "the next training tries it, and keeps it only if it helps"


def request_trial(group: Group, change: dict[str, Any], lost: Callable[[Group], Exception]) -> str:
    """Have the next training of `group` try `change`, the fields of a `step_trial.Change`."""
    with explaining_rank_loss(group, lost):
        group.view(group.live).apply_sync(remote_calls.arm_trial, change)
    return NEXT


def request_trial_beside(group: Group, change: dict[str, Any]) -> str:
    """Ask the same while a cell runs; return which training tries it, in words.

    Raises:
        EaiError: No rank answered.
    """
    found = group.ask_to_try(change, PATIENCE_S)
    if not found:
        raise EaiError("no rank answers", "try again in a moment", code="rank-silent")
    return NOW if any(answer["trains"] for answer in found.values()) else NEXT
