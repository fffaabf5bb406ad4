"""The registry of collective backends, and the choice of the one that a ring uses.

Backends come from the entry points of the group ``eai_notebook.collective_backends``, the
package's own among them. ``EAI_COLLECTIVE`` names one; else it is Horovod where every rank can
import it, mpi4py where one cannot, and none at all in a process by itself.
"""

from __future__ import annotations

import os
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from eai_notebook.errors import EaiError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from mpi4py import MPI

    from eai_notebook.collective.backend import CollectiveBackend

VARIABLE: Final = "EAI_COLLECTIVE"
GROUP: Final = "eai_notebook.collective_backends"
_BUILT_IN: Final = {
    "horovod": "horovod_backend.HorovodBackend",
    "mpi4py": "mpi4py_backend.Mpi4pyBackend",
    "null": "null_backend.NullBackend",
}
_ENTRY_BYTES: Final = 64
_FAILED: Final = "failed"
_WITHOUT_HOROVOD: Final = ("horovod-missing", "horovod-broken")
"""Errors that mpi4py can do without; without TensorFlow or Keras no backend can."""


@cache
def _entries() -> dict[str, EntryPoint | None]:
    """Return the entry point of each name; the package's own need none to be installed."""
    others = {point.name: point for point in entry_points(group=GROUP)}
    return {**others, **dict.fromkeys(_BUILT_IN)}


def backend_names() -> tuple[str, ...]:
    """Return the names of all backends, the package's own last.

    Examples:
        >>> backend_names()[-3:]
        ('horovod', 'mpi4py', 'null')
    """
    return tuple(_entries())


def backend_type(name: str) -> type[CollectiveBackend]:
    """Return the class of the backend `name`.

    Raises:
        EaiError: There is none of that name, or its package cannot be loaded.

    Examples:
        >>> backend_type("horovod").title
        'Horovod'
    """
    if name not in _entries():
        raise EaiError(
            f"unknown collective backend {name!r}",
            f"set {VARIABLE} to one of {', '.join(backend_names())}",
            code="collective-backend",
        )
    point = _entries()[name]
    try:
        if point is None:
            module, _, kind = _BUILT_IN[name].partition(".")
            found = getattr(import_module(f"eai_notebook.collective.backends.{module}"), kind)
        else:
            found = point.load()
    except Exception as error:
        raise EaiError(
            f"the collective backend {name!r} cannot be loaded: {error}",
            "mend or uninstall the package that it comes from",
            code="collective-backend-broken",
        ) from error
    backend: type[CollectiveBackend] = found
    return backend


@cache
def backend(name: str) -> CollectiveBackend:
    """Return this process's object of the backend `name`, made when it is first asked for.

    Raises:
        EaiError: There is none of that name, or its package cannot be loaded.
    """
    return backend_type(name)()


def rank_settings() -> dict[str, str]:
    """Return the environment variables that backends want for ranks.

    Which backend ranks use is decided where they run, so these are those of all.
    """
    return {key: text for name in backend_names() for key, text in _of(name, "settings").items()}


def forwarded_names() -> frozenset[str]:
    """Return the names of the backends' variables that ranks on other hosts get as well."""
    names = (each for name in backend_names() for each in _of(name, "forwarded"))
    return frozenset(names) | {VARIABLE}


def fusion_variable() -> tuple[str, str] | None:
    """Return the variable with the bytes of a joined message, and the backend's title.

    None if the backend named in ``EAI_COLLECTIVE``, by default Horovod, joins no tensors.
    """
    found = backend_type(named_backend() or "horovod")
    return None if found.fusion_variable is None else (found.fusion_variable, found.title)


def _of(name: str, attribute: str) -> Any:
    """Return a class attribute of the backend `name`; an empty one if it cannot be loaded."""
    try:
        return getattr(backend_type(name), attribute)
    except EaiError:
        return {}


def named_backend() -> str | None:
    """Return the name in ``EAI_COLLECTIVE``; None where the choice is automatic."""
    return os.environ.get(VARIABLE) or None


def choose(comm: MPI.Intracomm) -> tuple[CollectiveBackend, str | None]:
    """Return the backend for a ring on `comm`, and a notice for the user, if there is any.

    All processes of `comm` call it together and get the same, or an error.

    Raises:
        EaiError: ``EAI_COLLECTIVE`` differs between ranks, or some rank cannot use the backend.
    """
    named, why = named_backend(), ""
    choice = named or "horovod"
    error = _unavailable(choice)
    if named is None and error is not None and error.code in _WITHOUT_HOROVOD:
        choice, why = "mpi4py", error.what
        error = _unavailable(choice)
    entry = _FAILED if error else f"{'named' if named else 'found'} {choice}"
    entries = _gathered(comm, entry)
    if error is not None:
        raise error
    chosen = _decide(entries)
    if named is not None or chosen == "horovod":
        return backend(chosen), None
    if not why:
        why = f"rank {entries.index('found mpi4py')} cannot import Horovod"
    return backend(chosen), slowness(why)


def _unavailable(name: str) -> EaiError | None:
    try:
        return backend(name).unavailable()
    except EaiError as error:
        return error


def _decide(entries: list[str]) -> str:
    """Return the backend's name, from what each rank has named or found; alike on all ranks.

    Examples:
        >>> _decide(["found horovod", "found mpi4py"]), _decide(["named null", "named null"])
        ('mpi4py', 'null')
    """
    if _FAILED in entries:
        rank = entries.index(_FAILED)
        raise EaiError(
            f"rank {rank} has no library to exchange with",
            f"see the error of rank {rank}",
            code="collective-backend",
        )
    named = {entry for entry in entries if entry.startswith("named ")}
    if named and len(set(entries)) > 1:
        raise EaiError(
            f"{VARIABLE} differs between ranks: {', '.join(sorted(set(entries)))}",
            "set it to the same on all hosts, or nowhere",
            code="collective-backends-differ",
        )
    names = [entry.partition(" ")[2] for entry in entries]
    return "mpi4py" if "mpi4py" in names else names[0]


def expected_slowness(ranks: int) -> str | None:
    """Return the notice that a group of `ranks` on this machine is about to give, if any.

    Nothing is imported that takes seconds; why an installed Horovod cannot be imported, only the
    ranks find out.
    """
    if ranks == 1 or named_backend() is not None or find_spec("horovod") is not None:
        return None
    return slowness("Horovod is not installed")


def slowness(why: str) -> str:
    """Return the notice for ranks that exchange without Horovod."""
    return (
        f"ranks exchange by plain mpi4py, which is slower ({why}): "
        "`eai-notebook install-horovod` builds Horovod"
    )


def _gathered(comm: MPI.Intracomm, name: str) -> list[str]:
    """Return the ranks' names, by MPI itself."""
    mine = np.frombuffer(name.encode()[:_ENTRY_BYTES].ljust(_ENTRY_BYTES), np.uint8)
    table = np.zeros((comm.size, _ENTRY_BYTES), np.uint8)
    comm.Allgather(mine, table)
    return [row.tobytes().decode().rstrip() for row in table]
