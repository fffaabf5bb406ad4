"""Pull, push and compare variables of the ranks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from eai_notebook import pickled
from eai_notebook.errors import EaiError
from eai_notebook.session import remote_calls, variable_diff
from eai_notebook.session.rank_loss import explaining_rank_loss
from eai_notebook.session.rank_sets import checked_ranks

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from eai_notebook.cluster.group import Group

    Lost = Callable[[Group], Exception]
    """Makes the error to raise when a rank turns out to be dead."""

_LONGEST: Final = 300
_SOON_S: Final = 2.0
_PART: Final = "assign what you need of it to a variable in a cell, as arrays, and pull that"


def pull(group: Group, name: str, rank: int, lost: Lost) -> Any:
    """Return variable `name` of `rank` as plain data; a Keras model as a model.

    Raises `EaiError` when there is no such rank or variable, or when it cannot come here.
    """
    checked_ranks([rank], group.size)
    try:
        with explaining_rank_loss(group, lost):
            found = _answer(group, [rank], remote_calls.fetch, name)[0]
    except remote_calls.REMOTE_ERRORS as error:
        cause = remote_calls.first_error(error)
        if cause.ename == "NameError" and cause.evalue == name:
            raise EaiError(
                f"rank {rank} has no variable {name}", "set it in a cell", code="variable-unknown"
            ) from None
        what = f"{name} cannot be sent from rank {rank} ({_first_line(cause)})"
        raise EaiError(what, _PART, code="variable-not-sent") from None
    try:
        return pickled.load(found)
    except Exception as error:  # noqa: BLE001  # the user's own class may raise anything
        cause = remote_calls.RemoteFailure(type(error).__name__, str(error))
        what = f"{name} of rank {rank} cannot be made here ({_first_line(cause)})"
        raise EaiError(what, _PART, code="variable-not-sent") from None


def has(group: Group, name: str) -> bool:
    """Return whether rank 0 has a variable `name`, or False if it does not say so soon."""
    try:
        request = group.view(group.live[:1]).apply_async(remote_calls.has, name)
        return bool(request.get(timeout=_SOON_S)[0])
    except Exception:  # noqa: BLE001  # only a hint depends on it
        return False


def push(group: Group, variables: Mapping[str, Any], lost: Lost) -> None:
    """Set `variables` on every rank; all of them or none.

    Raises `EaiError` when one of them cannot be pickled, or cannot be made on a rank.
    """
    values = {name: _pickled(name, value) for name, value in variables.items()}
    try:
        with explaining_rank_loss(group, lost):
            _answer(group, group.live, remote_calls.store, values)
    except remote_calls.REMOTE_ERRORS as error:
        what = f"{', '.join(variables)}: a rank cannot take this over"
        what += f" ({_first_line(remote_calls.first_error(error))})"
        remedy = "push plain data or arrays, and import or define classes in a cell on the ranks"
        raise EaiError(what, remedy, code="variable-not-sent") from None


def _pickled(name: str, value: Any) -> list[Any]:
    try:
        return pickled.dump(value)
    except Exception as error:  # noqa: BLE001  # the user's own class may raise anything
        cause = remote_calls.RemoteFailure(type(error).__name__, str(error))
        what = f"{name} cannot be pickled ({_first_line(cause)})"
        raise EaiError(what, "push plain data or arrays", code="variable-not-sent") from None


def _answer(group: Group, ranks: Sequence[int], call: Any, *arguments: Any) -> Any:
    """Return what `ranks` answer; when the user stops that, they stop as well."""
    request = group.view(ranks).apply_async(call, *arguments)
    try:
        found = request.get()
    except KeyboardInterrupt:
        group.interrupt(ranks)
        raise
    group.client.purge_local_results(request)  # it would keep every value without end
    return found


def _first_line(cause: remote_calls.RemoteFailure) -> str:
    words = cause.evalue.strip().partition("\n")[0][:_LONGEST]
    return f"{cause.ename}: {words}" if words else cause.ename


def diff(group: Group, name: str, lost: Lost) -> str:
    """Compare variable `name` of all ranks, and say where they first differ."""
    try:
        with explaining_rank_loss(group, lost):
            return _diff(group, name)
    except remote_calls.REMOTE_ERRORS as error:
        cause = remote_calls.first_error(error)
        if cause.ename == "NameError":
            what = f"there is no variable {name} on some rank"
            raise EaiError(what, "set it in a cell on all ranks", code="variable-unknown") from None
        raise EaiError(
            f"{name} cannot be compared ({cause.evalue})", "pull it", code="variable-not-compared"
        ) from None


def _diff(group: Group, name: str) -> str:
    live = group.live
    everyone = group.view(live)
    apart = variable_diff.first_difference(
        dict(zip(live, everyone.apply_sync(remote_calls.digest, name), strict=True))
    )
    if apart is None:
        return f"`{name}` is the same on all {group.size} ranks"
    if "missing" in apart.kinds:
        return variable_diff.describe_difference(apart, None, None)
    sides = group.view([apart.even, apart.odd[0]])
    return variable_diff.describe_difference(
        apart, *sides.apply_sync(remote_calls.part, name, apart.path)
    )
