"""The checks of `eai-notebook check`, one small function for each line of its table.

A check returns what it found and, where something is wrong, the remedy. Nothing is
imported that takes seconds: versions are read from the packages' metadata.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import psutil

import eai_notebook
from eai_notebook.cluster import listening, registry
from eai_notebook.collective.backend_registry import named_backend
from eai_notebook.errors import EaiError
from eai_notebook.horovod_build import mpi_finder
from eai_notebook.horovod_build.cache_key import HOROVOD, installed, installed_tensorflow
from eai_notebook.horovod_build.verify import prove

State = Literal["ok", "note", "fail"]

PORTS: Final = 16
"""A group of ranks listens on about this many loopback ports while it starts."""

MEMORY_PER_RANK: Final = 1.5 * 2**30
"""Bytes that a rank with TensorFlow and a small model needs, about."""

SHARED_MEMORY: Final = 64 * 2**20
"""Ranks of one host exchange through /dev/shm; containers are often given no more."""


@dataclass(frozen=True)
class Finding:
    """One line of the table; with ``fail``, training will not work here."""

    name: str
    state: State
    found: str
    remedy: str = ""


def findings(*, prove_horovod: bool = True) -> Iterator[Finding]:
    """Yield each finding as soon as it is known.

    `prove_horovod` runs an allreduce on two ranks, which takes about ten seconds.
    """
    yield from (check() for check in CHECKS)
    yield _proof() if prove_horovod else _horovod_version()


def _python() -> Finding:
    found = f"{sys.version.split()[0]} ({sys.executable})"
    if sys.version_info < (3, 10):  # noqa: UP036  the check is about the user's machine
        return Finding("Python", "fail", found, "use Python 3.10 or newer")
    return Finding("Python", "ok", found)


def _tensorflow() -> Finding:
    try:
        name, version = installed_tensorflow()
    except EaiError as error:
        return Finding("TensorFlow", "fail", "not installed", error.remedy)
    return Finding("TensorFlow", "ok", f"{version} ({name})")


def _package(title: str, name: str, at_least: int = 0) -> Callable[[], Finding]:
    def check() -> Finding:
        version = installed(name)
        if version is None:
            return Finding(title, "fail", "not installed", f"`pip install {name}`")
        if int(version.split(".")[0]) < at_least:
            remedy = f"`pip install '{name}>={at_least}'`"
            return Finding(title, "fail", f"{version} is too old", remedy)
        return Finding(title, "ok", version)

    return check


def _mpi() -> Finding:
    try:
        found = mpi_finder.find()
    except EaiError as error:
        return Finding("MPI", "fail", "no mpirun", error.remedy)
    return Finding("MPI", "ok", f"{found.name} {found.version} ({found.program('mpirun')})")


def _extension() -> Finding:
    from jupyter_core.paths import jupyter_path

    remedy = "install eai_notebook's wheel, or in a clone run `make front`"
    for folder in jupyter_path("labextensions"):
        manifest = Path(folder) / "eai-notebook" / "package.json"
        if not manifest.is_file():
            continue
        version = json.loads(manifest.read_text(encoding="utf-8")).get("version")
        if version != eai_notebook.__version__:
            found = f"{version}, but the package is {eai_notebook.__version__}"
            return Finding("JupyterLab panel", "note", found, remedy)
        return Finding("JupyterLab panel", "ok", f"{version} ({manifest.parent})")
    return Finding("JupyterLab panel", "note", "not installed", remedy)


def _cores() -> Finding:
    usable = len(os.sched_getaffinity(0))
    quota = _cpu_quota()
    if quota is not None and quota < usable:
        found = f"{usable}, of which the container may use {quota:g}"
        return Finding("cores", "note", found, f"start at most {max(1, int(quota))} ranks")
    return Finding("cores", "ok", str(usable))


def _memory() -> Finding:
    memory = psutil.virtual_memory()
    limit = _memory_limit()
    free = min(memory.available, limit) if limit else memory.available
    found = f"{free / 2**30:.1f} GiB free of {(limit or memory.total) / 2**30:.1f}"
    if free < 2 * MEMORY_PER_RANK:
        return Finding("memory", "note", found, "close other programs before you start two ranks")
    return Finding("memory", "ok", found)


def _shared_memory() -> Finding:
    folder = Path("/dev/shm")  # noqa: S108  only its size is read
    if not folder.is_dir():
        return Finding("shared memory", "note", "no /dev/shm", "ranks will exchange over loopback")
    free = shutil.disk_usage(folder).free
    found = f"{free / 2**20:,.0f} MiB free in {folder}"
    if free <= SHARED_MEMORY:
        remedy = "start the container with a larger one (`docker run --shm-size=1g`)"
        return Finding("shared memory", "note", found, remedy)
    return Finding("shared memory", "ok", found)


def _gpus() -> Finding:
    if shutil.which("nvidia-smi") is None:
        return Finding("GPUs", "ok", "none (no nvidia-smi); training runs on the cores")
    query = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, check=False, timeout=30)
    except subprocess.TimeoutExpired:
        return Finding(
            "GPUs", "note", "nvidia-smi does not answer", "check the driver with `dmesg`"
        )
    if answer.returncode:
        reason = (answer.stdout + answer.stderr).strip().splitlines() or ["no reason given"]
        return Finding("GPUs", "note", f"nvidia-smi: {reason[0]}", "repair the driver first")
    return Finding("GPUs", "ok", "; ".join(answer.stdout.strip().splitlines()))


def _ports() -> Finding:
    got = 0
    with ExitStack() as held:
        try:
            for _ in range(PORTS):
                held.enter_context(socket.create_server(("127.0.0.1", 0)))
                got += 1
        except OSError as error:
            found = f"{got} of {PORTS} on loopback ({error.strerror})"
            return Finding("free ports", "fail", found, "raise `ulimit -n`, or bring loopback up")
    return Finding("free ports", "ok", f"{got} of {PORTS} tried on loopback")


def _listening() -> Finding:
    """Return where this user's groups listen, or where the next one would."""
    groups = [entry for entry in registry.entries() if entry.state in ("in use", "kept")]
    found = [f"{entry.name}: {listening.of_group(entry)}" for entry in groups]
    if listening.library() is None:
        remedy = "install a C compiler (cc), or let the machine's firewall close its ports"
        text = "; ".join([*found, "mpirun listens on every interface, without a key"])
        return Finding("listening", "note", text, remedy)
    return Finding("listening", "ok", "; ".join(found) or "groups of this machine on loopback only")


def _writable() -> Finding:
    here = Path.cwd()
    try:
        with tempfile.NamedTemporaryFile(dir=here):
            pass
    except OSError as error:
        found = f"{here} ({error.strerror})"
        return Finding("working folder", "fail", found, "start in a folder you may write to")
    free = shutil.disk_usage(here).free
    found = f"{here} (writable, {free / 2**30:.1f} GiB free)"
    if free < 2**30:
        return Finding(
            "working folder", "note", found, "free some space: run records are kept here"
        )
    return Finding("working folder", "ok", found)


def _horovod_version() -> Finding:
    version = installed("horovod")
    if version is None:
        found = "not installed: ranks exchange by plain mpi4py, which is slower"
        return Finding("Horovod", "note", found, "`eai-notebook install-horovod`")
    if version != HOROVOD:
        found = f"{version}, but this package is made for {HOROVOD}"
        return Finding("Horovod", "note", found, "`eai-notebook install-horovod --force`")
    return Finding("Horovod", "ok", f"{version} (not tried)")


def _proof() -> Finding:
    """Sum on two ranks with the library that ranks would use."""
    known = _horovod_version()
    try:
        proof = prove(mpi_finder.find())
    except EaiError as error:
        return Finding("exchange", "fail", error.what, error.remedy)
    found = (
        f"{proof.backend} {proof.version} ({' and '.join(proof.operations)} operations), "
        f"{proof.size} ranks summed correctly"
    )
    if proof.backend != "Horovod" and named_backend() is None:
        return Finding(
            "exchange",
            "note",
            f"{found}; {known.found}",
            "`eai-notebook install-horovod --force` builds Horovod, which is faster",
        )
    return Finding("exchange", known.state, found, known.remedy)


def _cpu_quota() -> float | None:
    """Return how many cores the container may use; None if there is no limit."""
    text = _cgroup("cpu.max")
    if text is None or text.startswith("max"):
        return None
    quota, period = text.split()[:2]
    return int(quota) / int(period)


def _memory_limit() -> int | None:
    """Return the container's memory limit in bytes; None if there is no limit."""
    text = _cgroup("memory.max")
    return None if text is None or text.startswith("max") else int(text)


def _cgroup(name: str) -> str | None:
    try:
        return (Path("/sys/fs/cgroup") / name).read_text(encoding="ascii").strip()
    except OSError:
        return None


CHECKS: Final[tuple[Callable[[], Finding], ...]] = (
    _python,
    _tensorflow,
    _package("Keras", "keras", at_least=3),
    _mpi,
    _package("mpi4py", "mpi4py", at_least=4),
    _package("ipyparallel", "ipyparallel", at_least=9),
    _package("JupyterLab", "jupyterlab", at_least=4),
    _extension,
    _cores,
    _memory,
    _shared_memory,
    _gpus,
    _ports,
    _listening,
    _writable,
)
