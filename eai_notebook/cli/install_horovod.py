"""`eai-notebook install-horovod`: build, install and test Horovod for this Python and MPI."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from eai_notebook.errors import EaiError
from eai_notebook.horovod_build import mpi_finder
from eai_notebook.horovod_build.cache_key import HOROVOD, HorovodKey, installed, key_for
from eai_notebook.horovod_build.verify import Proof, prove, remember, remembered
from eai_notebook.horovod_build.wheel_build import (
    build_wheel,
    has_patches,
    is_outdated,
    require_toolchain,
)
from eai_notebook.terminal import console
from eai_notebook.terminal.progress import progress


def install_horovod(
    gpu: Annotated[
        bool, typer.Option("--gpu", help="Also build CUDA and NCCL operations.")
    ] = False,
    prefix: Annotated[
        Path | None,
        typer.Option("--mpi", metavar="PREFIX", help="Use the MPI in this folder (a cluster's)."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Build and install again.")] = False,
) -> None:
    """Build, install and test Horovod for this Python, its TensorFlow and an MPI.

    The wheel is cached for other environments with the same versions. If the installed Horovod has
    passed the test before, the command returns at once.
    """
    found = mpi_finder.find(prefix)
    key = key_for(found, gpu=gpu)
    if not force:
        proof = remembered(key) or _adopt(key, found, gpu=gpu)
        if proof is not None:
            console.out.print(f"already installed:  {proof.sentence()}", highlight=False)
            return
    wheel = _wheel(key, found, gpu=gpu, force=force)
    _install(wheel)
    proof = _prove(found)
    if not _does(proof, gpu=gpu):
        wheel.unlink()
        raise EaiError(
            "the build succeeded, but without NCCL operations",
            f"search {key.folder / 'build.log'} for NCCL and set HOROVOD_NCCL_HOME to its folder",
            code="horovod-without-nccl",
        )
    remember(key, proof)
    console.out.print(proof.sentence(), highlight=False)
    if prefix is not None:
        console.out.print(
            f"start groups with the same MPI: export EAI_MPIRUN={found.program('mpirun')}",
            highlight=False,
        )


def _adopt(key: HorovodKey, found: mpi_finder.Mpi, *, gpu: bool) -> Proof | None:
    """Return the proof of a Horovod built by others, if it has the requested operations."""
    if installed("horovod") != HOROVOD or key.cached_wheel() is not None:
        return None
    if is_outdated():
        console.note("the installed Horovod is of an older eai-notebook, so it is built again")
        return None
    console.note(f"Horovod {HOROVOD} is installed; trying it")
    try:
        proof = _prove(found)
    except EaiError as error:
        console.note(f"it does not work ({error.what}), so it is built again")
        return None
    if not _does(proof, gpu=gpu):
        return None
    if not has_patches():
        console.note(
            "it works, but its background loop polls: small exchanges take three to four times as long, "
            "and idle ranks use a tenth of a core each; `eai-notebook install-horovod --force` builds "
            "one that sleeps"
        )
    remember(key, proof)
    return proof


def _does(proof: Proof, *, gpu: bool) -> bool:
    """Return whether the proved Horovod has the requested operations."""
    return not gpu or "NCCL" in proof.operations


def _wheel(key: HorovodKey, found: mpi_finder.Mpi, *, gpu: bool, force: bool) -> Path:
    cached = None if force else key.cached_wheel()
    if cached is not None:
        console.note(f"using the wheel built earlier: {cached}")
        return cached
    require_toolchain(found, gpu=gpu)
    console.note(
        f"building Horovod {key.horovod} for {key.tensorflow} on {found.name} {found.version}; "
        f"log: {key.folder / 'build.log'}"
    )
    with progress("building Horovod") as report:
        return build_wheel(key, found, gpu=gpu, report=report)


def _install(wheel: Path) -> None:
    command = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--quiet"]
    command += ["--no-index", "--no-deps", "--force-reinstall", str(wheel)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        raise EaiError(
            f"the wheel {wheel} could not be installed ({lines[-1] if lines else 'no reason given'})",
            "use a virtual environment that you may write to",
            code="horovod-install-failed",
        )


def _prove(found: mpi_finder.Mpi) -> Proof:
    with console.err.status("testing it with two ranks"):
        return prove(found, backend="horovod")
