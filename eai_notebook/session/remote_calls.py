"""Functions that a session runs on its ranks outside of the user's cells.

Each is a function that the ranks import for themselves, so that the kernel never loads
the rank side.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ipyparallel import error as ipp_error


def warm_up(wire: str | None = None) -> dict[str, Any]:
    """Make an engine a rank; returns its ``rank``, ``host`` and ``pid``.

    ``wire`` is what gradients travel in where an optimizer does not say.
    """
    from eai_notebook.engine import startup

    return startup.warm_up(wire)


def describe_rank() -> dict[str, Any]:
    """Say who a rank is that was warmed up before; returns what `warm_up` does."""
    from eai_notebook.engine import startup

    return startup.describe_rank()


def join_ring(ranks: list[int]) -> None:
    """Form the ring on `ranks`, this one among them."""
    from eai_notebook.engine import startup

    startup.join_ring(ranks)


def drop_dead() -> None:
    """Leave ranks that have died out of the rings to come."""
    from eai_notebook.engine import startup

    startup.drop_dead()


def admit(number: int, sponsor: int) -> None:
    """Let in a newcomer, on all ranks that live."""
    from eai_notebook.engine import startup

    startup.admit(number, sponsor)


def come_in() -> None:
    """Come in among those that live, in a newcomer."""
    from eai_notebook.engine import startup

    startup.come_in()


def models() -> list[str]:
    """Return the names of the rank's variables that are Keras models."""
    from eai_notebook.engine import variable_transfer

    return variable_transfer.models()


def take_models(values: dict[str, list[Any]]) -> None:
    """Give the rank's models the weights and optimizers of others, each of them pickled."""
    from eai_notebook.engine import variable_transfer

    variable_transfer.take_models(values)


def leave_ring() -> None:
    """Stay out of the ring that others form."""
    from eai_notebook.engine import startup

    startup.leave_ring()


def fetch(name: str) -> list[Any]:
    """Return the rank's variable `name` as plain data, pickled."""
    from eai_notebook.engine import variable_transfer

    return variable_transfer.fetch(name)


def has(name: str) -> bool:
    """Return whether the rank has a variable `name`."""
    from eai_notebook.engine import variable_transfer

    return variable_transfer.has(name)


def store(values: dict[str, list[Any]]) -> None:
    """Set variables of the rank to `values`, each of them pickled."""
    from eai_notebook.engine import variable_transfer

    variable_transfer.store(values)


def digest(name: str) -> list[dict[str, Any]]:
    """Return the parts of the rank's variable `name`, described and summed up."""
    from eai_notebook.engine import variable_digest

    return variable_digest.digest(name)


def part(name: str, path: str) -> Any:
    """Return one part of the rank's variable `name`, as an array or as text."""
    from eai_notebook.engine import variable_digest

    return variable_digest.part(name, path)


def arm_trial(change: dict[str, Any]) -> None:
    """Have the rank's next training try a change."""
    from eai_notebook.engine import armed_trial

    armed_trial.arm(change)


REMOTE_ERRORS = (ipp_error.RemoteError, ipp_error.CompositeError)


class RemoteFailure(NamedTuple):
    """What a call failed with on a rank."""

    ename: str
    evalue: str


def first_error(error: Any) -> RemoteFailure:
    """Return what a call failed with on the first rank where it did."""
    if isinstance(error, ipp_error.CompositeError):
        ename, evalue, *_ = error.elist[0]
        return RemoteFailure(ename, evalue)
    return RemoteFailure(error.ename, error.evalue)
