"""Have all ranks try a change in their next training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eai_notebook.session import remote_calls
from eai_notebook.session.rank_loss import explaining_rank_loss

if TYPE_CHECKING:
    from collections.abc import Callable

    from eai_notebook.cluster.group import Group


def request_trial(group: Group, change: dict[str, Any], lost: Callable[[Group], Exception]) -> None:
    """Have the next training of `group` try `change`, the fields of a `step_trial.Change`."""
    with explaining_rank_loss(group, lost):
        group.view(group.live).apply_sync(remote_calls.arm_trial, change)
