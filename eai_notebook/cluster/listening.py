"""Where ranks and ``mpirun`` listen: on loopback, or on the networks of their hosts, and nowhere else.

Open MPI's launcher and its TCP transport listen on every interface, whatever their settings, and
ask for no key. So `listen_on.c`, a few lines around ``bind()``, is compiled once and preloaded
into them. Without a C compiler groups start all the same; `%eai status` says where they listen.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import platformdirs
import psutil

from eai_notebook.errors import EaiError
from eai_notebook.files import private_folder
from eai_notebook.process_lease import families

if TYPE_CHECKING:
    from eai_notebook.cluster import registry

NETWORKS: Final = "EAI_LISTEN"
"""The variable that holds the networks to listen on, separated by commas."""
PRELOAD: Final = "LD_PRELOAD"
LOOPBACK: Final = "127.0.0.0/8"

_PROGRAMS: Final = {
    "controller": "controller",
    "engine_process": "rank",
    "nanny": "nanny",
    "kube_jobs.pod_runner": "pods' runner",
}
"""What the processes of a group are called, by the module that each runs."""
MPIRUN: Final = ("prterun", "prted")
"""The processes of ``mpirun``: itself, and its daemon on another host."""
_SOURCE: Final = Path(__file__).with_name("listen_on.c")
_COMPILE_S: Final = 60.0


def library() -> Path | None:
    """Return the compiled library, from the user's cache or made now; None if it cannot be.

    Its name holds a digest of its source, and its folder is the user's alone. The loader knows no
    names with spaces or colons.
    """
    if not sys.platform.startswith("linux"):
        return None
    cache = platformdirs.user_cache_path("eai-notebook") / "listen"
    if re.search(r"[\s:;]", str(cache)):
        return None
    try:
        return _library_in(private_folder(cache))
    except (OSError, EaiError):  # a cache that cannot be written, or is somebody else's
        return None


def _library_in(folder: Path) -> Path | None:
    source = _SOURCE.read_bytes()
    digest = hashlib.sha256(source + os.uname().machine.encode()).hexdigest()[:16]
    path = folder / f"listen-on-{digest}.so"
    compiler = shlex.split(os.environ.get("CC", "")) or ["cc"]
    if path.exists():
        return path
    if shutil.which(compiler[0]) is None:
        return None
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        made = Path(scratch) / path.name
        command = [*compiler, "-O1", "-shared", "-fPIC", "-o", str(made), str(_SOURCE)]
        try:
            done = subprocess.run(command, capture_output=True, check=False, timeout=_COMPILE_S)
        except (OSError, subprocess.TimeoutExpired):
            return None
        if done.returncode:
            return None
        made.replace(path)
    return path


def environment(networks: str, made: Path | None) -> dict[str, str]:
    """Return what has a program listen on `networks` only; nothing where there is no library."""
    if made is None:
        return {}
    others = os.environ.get(PRELOAD, "")
    return {PRELOAD: f"{made}:{others}" if others else str(made), NETWORKS: networks}


def listening(processes: list[psutil.Process]) -> dict[str, list[str]]:
    """Return for each program among `processes` the addresses it listens on, without ports.

    Of a process that belongs to another user, or has ended, nothing is known.
    """
    found: dict[str, set[str]] = {}
    for process in processes:
        try:
            name = _program(process)
            ends = process.net_connections("inet")
        except psutil.Error:
            continue
        addresses = {
            end.laddr.ip.removeprefix("::ffff:") for end in ends if end.status == psutil.CONN_LISTEN
        }
        found.setdefault(name, set()).update(addresses)
    return {name: sorted(addresses) for name, addresses in found.items()}


def of_group(entry: registry.Entry) -> str:
    """Return which programs of a group listen where on this machine, in one line.

    Example of one: ``controller on 127.0.0.1; mpirun on 127.0.0.1; nanny on 127.0.0.1``.
    """
    running = []
    for pid, _ in families(entry.processes):
        with contextlib.suppress(psutil.NoSuchProcess):
            running.append(psutil.Process(pid))
    found = listening(running)
    return "; ".join(
        f"{name} on {', '.join(addresses)}"
        for name, addresses in sorted(found.items())
        if addresses
    )


def _program(process: psutil.Process) -> str:
    """Return what a process of a group is, in a word."""
    words = process.cmdline()
    for module, name in _PROGRAMS.items():
        if f"eai_notebook.cluster.{module}" in words:
            return name
    name = Path(words[0]).name if words else process.name()
    return "mpirun" if name in MPIRUN else name
