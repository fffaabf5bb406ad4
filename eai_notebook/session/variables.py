"""Pull, push and compare variables of the ranks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eai_notebook.errors import EaiError
from eai_notebook.session import remote_calls, variable_diff
from eai_notebook.session.rank_loss import explaining_rank_loss

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from eai_notebook.cluster.group import Group

    Lost = Callable[[Group], Exception]
    """Makes the error to raise when a rank turns out to be dead."""


def pull(group: Group, name: str, rank: int, lost: Lost) -> Any:
    """Return variable `name` of `rank` as plain data."""
    try:
        with explaining_rank_loss(group, lost):
            return group.view([rank]).apply_sync(remote_calls.fetch, name)[0]
    except remote_calls.REMOTE_ERRORS as error:
        cause = remote_calls.first_error(error)
        if cause.ename == "NameError":
            raise EaiError(f"rank {rank} has no variable {name}", "set it in a cell") from None
        what = f"{name} cannot be sent from rank {rank} ({cause.evalue})"
        raise EaiError(what, "pull plain data or arrays") from None


def push(group: Group, variables: Mapping[str, Any], lost: Lost) -> None:
    """Set `variables` on every rank."""
    try:
        with explaining_rank_loss(group, lost):
            group.view(range(group.size)).push(variables, block=True)
    except (TypeError, AttributeError, ValueError) as error:
        names = ", ".join(variables)
        raise EaiError(f"{names} cannot be pickled ({error})", "push plain data") from error


def diff(group: Group, name: str, lost: Lost) -> str:
    """Compare variable `name` of all ranks, and say where they first differ."""
    try:
        with explaining_rank_loss(group, lost):
            return _diff(group, name)
    except remote_calls.REMOTE_ERRORS as error:
        cause = remote_calls.first_error(error)
        if cause.ename == "NameError":
            what = f"there is no variable {name} on some rank"
            raise EaiError(what, "set it in a cell on all ranks") from None
        raise EaiError(f"{name} cannot be compared ({cause.evalue})", "pull it") from None


def _diff(group: Group, name: str) -> str:
    everyone = group.view(range(group.size))
    apart = variable_diff.first_difference(
        dict(enumerate(everyone.apply_sync(remote_calls.digest, name)))
    )
    if apart is None:
        return f"`{name}` is the same on all {group.size} ranks"
    if "missing" in apart.kinds:
        return variable_diff.describe_difference(apart, None, None)
    sides = group.view([apart.even, apart.odd[0]])
    return variable_diff.describe_difference(
        apart, *sides.apply_sync(remote_calls.part, name, apart.path)
    )
