"""Test the installed Horovod with an allreduce on two ranks, and cache the result."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import subprocess
import sysconfig
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from eai_notebook.cluster.launchers.local import private_environment
from eai_notebook.cluster.mpirun_output import explain, left_over
from eai_notebook.collective.backend_registry import VARIABLE
from eai_notebook.errors import EaiError
from eai_notebook.files import write_private
from eai_notebook.horovod_build.cache_key import HorovodKey, cache
from eai_notebook.process_lease import leased_process
from eai_notebook.python_command import module_command

if TYPE_CHECKING:
    from pathlib import Path

    from eai_notebook.horovod_build.mpi_finder import Mpi

RANKS = 2
PROBE_SECONDS = 180
"""Two ranks import TensorFlow and sum once: 5 to 10 s, a minute on a cold slow disk."""


@dataclass(frozen=True)
class Proof:
    """Result of the test: versions and operations that two ranks reported."""

    size: int
    backend: str
    version: str
    tensorflow: str
    keras: str
    mpi: str
    operations: tuple[str, ...]
    gpus: int

    def sentence(self) -> str:
        """Return the proof in one line."""
        return (
            f"{self.backend} {self.version} ({' and '.join(self.operations)} operations) "
            f"for TensorFlow {self.tensorflow} and Keras {self.keras} on {self.mpi}; "
            f"{self.size} ranks summed correctly"
        )


def prove(mpi: Mpi, *, backend: str | None = None) -> Proof:
    """Run an allreduce on two local ranks with `mpi` and return their report.

    `backend` is the collective backend to prove; None for the one that ranks would use.

    Raises:
        EaiError: The ranks failed, hung or computed a wrong sum; it quotes the end of their output.
    """
    # On a small machine, two ranks with full thread pools would compete for the cores.
    env = mpi.environment() | {"OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [*mpi.launch(RANKS), *module_command("eai_notebook.collective.self_test")]
    env |= private_environment()
    if backend is not None:
        env[VARIABLE] = backend
    with leased_process(command, env) as process:
        try:
            output, _ = process.communicate(timeout=PROBE_SECONDS)
        except subprocess.TimeoutExpired as late:
            said = late.output or b""
            raise EaiError(
                f"two ranks did not finish one allreduce in {PROBE_SECONDS} s",
                _remedy(said.decode(errors="replace") if isinstance(said, bytes) else said),
                code="horovod-test-failed",
            ) from None
    return _read(output, process.returncode)


def _read(output: str, status: int) -> Proof:
    from eai_notebook.collective.self_test import MARK

    for line in output.splitlines():
        _, found, text = line.partition(MARK)
        if found and status == 0:
            report: dict[str, Any] = json.loads(text)
            report.pop("rank")
            proof = Proof(**{**report, "operations": tuple(report["operations"])})
            if proof.size == RANKS:
                return proof
            raise EaiError(
                f"{RANKS} ranks were started but each saw {proof.size}",
                "mpirun and mpi4py belong to different MPIs: name the right one with --mpi PREFIX",
                code="mpi-mismatch",
            )
    raise EaiError(
        f"an allreduce on two ranks failed (mpirun ended with {status})",
        _remedy(output),
        code="horovod-test-failed",
    )


def _remedy(output: str) -> str:
    """Return the quoted cause and a remedy: a new build only if the cause is about Horovod."""
    cause = explain(output) or "nothing was printed"
    if any(word in cause for word in ("Horovod", "horovod", "ImportError", "undefined symbol")):
        return (
            f"the ranks printed `{cause}`; build again with `eai-notebook install-horovod --force`"
        )
    names = left_over(os.environ)
    unset = f"unset {', '.join(names)}, which change what MPI does" if names else "fix that first"
    return f"the ranks printed `{cause}`; {unset}"


# -------------------------------------------------------------------- cached test results


def remember(key: HorovodKey, proof: Proof) -> None:
    """Cache that the installed Horovod passed the test and matches `key`."""
    note = _note()
    note.parent.mkdir(parents=True, exist_ok=True)
    kept = {"key": key.name, "files": _installed_files(), "proof": asdict(proof)}
    write_private(note, json.dumps(kept, indent=1))


def remembered(key: HorovodKey) -> Proof | None:
    """Return the cached result if it matches `key` and the installed files."""
    try:
        kept = json.loads(_note().read_text(encoding="utf-8"))
        if kept["key"] != key.name or kept["files"] != _installed_files():
            return None
        report = kept["proof"]
        return Proof(**{**report, "operations": tuple(report["operations"])})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _installed_files() -> str | None:
    """Return a digest of the installed Horovod's list of files; None without one."""
    try:
        record = importlib.metadata.distribution("horovod").read_text("RECORD")
    except importlib.metadata.PackageNotFoundError:
        return None
    return hashlib.sha256((record or "").encode()).hexdigest()


def _note() -> Path:
    """Return the path of this environment's cached result, in the user's cache."""
    environment = hashlib.sha256(sysconfig.get_path("purelib").encode()).hexdigest()[:16]
    return cache() / "proved" / f"{environment}.json"
