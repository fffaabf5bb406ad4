"""Verify that the installed Horovod sums over two ranks, and remember the proof."""

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
from eai_notebook.errors import EaiError
from eai_notebook.files import write_private
from eai_notebook.horovod_build.cache_key import HorovodKey, cache
from eai_notebook.process_lease import Lease
from eai_notebook.python_command import module_command
from eai_notebook.terminal.run_logged import end_group

if TYPE_CHECKING:
    from pathlib import Path

    from eai_notebook.horovod_build.mpi_finder import Mpi

RANKS = 2
PROBE_SECONDS = 180
"""Two ranks import TensorFlow and sum once: 5 to 10 s, a minute on a cold slow disk."""


@dataclass(frozen=True)
class Proof:
    """What two ranks said of the Horovod they summed with."""

    size: int
    horovod: str
    tensorflow: str
    keras: str
    mpi: str
    operations: tuple[str, ...]
    gpus: int

    def sentence(self) -> str:
        """Return the proof in one line."""
        return (
            f"Horovod {self.horovod} ({' and '.join(self.operations)} operations) "
            f"for TensorFlow {self.tensorflow} and Keras {self.keras} on {self.mpi}; "
            f"{self.size} ranks summed correctly"
        )


def prove(mpi: Mpi) -> Proof:
    """Run an allreduce on two local ranks with `mpi` and return what they said.

    Raises:
        EaiError: they failed, hung or did not sum; the end of what they printed is in it.
    """
    # Two ranks and TensorFlow's own thread pools would fight over the cores of a small machine.
    env = mpi.environment() | {"OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [*mpi.launch(RANKS), *module_command("eai_notebook.collective.self_test")]
    env |= private_environment()
    lease = Lease()  # whatever ends this process, the ranks end with it
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=env | lease.mark,
        start_new_session=True,
    ) as process:
        try:
            lease.cover([process.pid])
            said, _ = process.communicate(timeout=PROBE_SECONDS)
        except subprocess.TimeoutExpired:
            end_group(process.pid)
            said, _ = process.communicate()
            raise EaiError(
                f"two ranks did not finish one allreduce in {PROBE_SECONDS} s", _remedy(said)
            ) from None
        except BaseException:
            end_group(process.pid)
            raise
        finally:
            lease.end()
    return _read(said, process.returncode)


def _read(said: str, status: int) -> Proof:
    from eai_notebook.collective.self_test import MARK

    for line in said.splitlines():
        _, found, text = line.partition(MARK)
        if found and status == 0:
            told: dict[str, Any] = json.loads(text)
            told.pop("rank")
            proof = Proof(**{**told, "operations": tuple(told["operations"])})
            if proof.size == RANKS:
                return proof
            raise EaiError(
                f"{RANKS} ranks were started but each saw {proof.size}",
                "mpirun and mpi4py belong to different MPIs: name the right one with --mpi PREFIX",
            )
    raise EaiError(f"two ranks could not sum (mpirun ended with {status})", _remedy(said))


def _remedy(said: str) -> str:
    """Quote the cause; to build anew is a remedy only where it speaks of Horovod's own files."""
    cause = explain(said) or "nothing was printed"
    if any(word in cause for word in ("Horovod", "horovod", "ImportError", "undefined symbol")):
        return f"they said `{cause}`; build again with `eai-notebook install-horovod --force`"
    names = left_over(os.environ)
    unset = f"unset {', '.join(names)}, which change what MPI does" if names else "mend that first"
    return f"they said `{cause}`; {unset}"


# ----------------------------------------------------------------- what was proved before


def remember(key: HorovodKey, proof: Proof) -> None:
    """Note that the Horovod installed now was proved to be the one `key` asks for."""
    note = _note()
    note.parent.mkdir(parents=True, exist_ok=True)
    kept = {"key": key.name, "files": _installed_files(), "proof": asdict(proof)}
    write_private(note, json.dumps(kept, indent=1))


def remembered(key: HorovodKey) -> Proof | None:
    """Return the proof made earlier if it is about `key` and the very files installed now."""
    try:
        kept = json.loads(_note().read_text(encoding="utf-8"))
        if kept["key"] != key.name or kept["files"] != _installed_files():
            return None
        told = kept["proof"]
        return Proof(**{**told, "operations": tuple(told["operations"])})
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
    """Return where proofs about this environment are kept: the user's cache, always writable."""
    place = hashlib.sha256(sysconfig.get_path("purelib").encode()).hexdigest()[:16]
    return cache() / "proved" / f"{place}.json"
