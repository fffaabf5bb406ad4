"""The files that engines on other hosts need first: brought by ssh, the keys gone once they are read.

The connection file holds the keys of a group. ``mpirun`` would send them over the network
unencrypted, in the environment of the engines; ssh encrypts.
"""

from __future__ import annotations

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from secrets import token_hex
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import platformdirs

from eai_notebook.cluster import listening, remote_python
from eai_notebook.cluster.client import connection_file
from eai_notebook.errors import EaiError

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator, Mapping

    from eai_notebook.cluster import registry
    from eai_notebook.cluster.preflight import Placement

WRITE_S: Final = 30.0
"""How long a host may take to write a file."""


@contextlib.contextmanager
def key_files(entry: registry.Entry, placement: Placement) -> Iterator[tuple[str, dict[str, str]]]:
    """Have the connection file on each host during the block; yield its path, and where to listen.

    A host's file is removed after the block, also when this process dies: its writer waits for that.
    The second value is the environment that has ranks and daemons listen on their networks only.

    Raises:
        EaiError: a host cannot write the file.
    """
    path = str(platformdirs.user_cache_path("eai-notebook") / "keys" / f"{token_hex(8)}.json")
    keys = {path: connection_file(entry, "engine").read_bytes()}
    with listen_rules(placement, keys) as listen:
        yield path, listen


@contextlib.contextmanager
def listen_rules(
    placement: Placement, held: Mapping[str, bytes] = MappingProxyType({})
) -> Iterator[dict[str, str]]:
    """Have `held` files on each host during the block; yield the variables that restrict listening.

    With them, and the library that they name, programs listen on the networks of `placement` only. There
    are none where the library cannot be compiled.

    Args:
        placement: The hosts and their networks.
        held: Contents of files for this user alone, by path; removed after the block.

    Raises:
        EaiError: a host cannot write a file.
    """
    made = listening.library()
    kept = {} if made is None else {str(made): made.read_bytes()}
    if not kept and not held:
        yield {}
        return
    writers = {
        host.name: remote_python.hold_files(host.name, kept, held, here=host.name in placement.here)
        for host in placement.hosts
    }
    try:
        with ThreadPoolExecutor(len(writers)) as waiting:
            problems = [
                each for each in waiting.map(_problem, *zip(*writers.items(), strict=True)) if each
            ]
        if problems:
            what = f"{', '.join([*kept, *held])} cannot be written ({'; '.join(problems)})"
            remedy = "make your cache folder writable on every host, for you alone"
            raise EaiError(what, remedy, code="host-folder")
        yield listening.environment(",".join(placement.networks), made)
    finally:
        for writer in writers.values():
            # Removing takes a moment that nobody has to wait for.
            threading.Thread(target=_release, args=(writer,), name="eai-key-file").start()


def _problem(name: str, writer: subprocess.Popen[str]) -> str | None:
    """Return why the file is not on the host; None once it is there."""
    assert writer.stdout is not None  # noqa: S101  PIPE was asked for
    overdue = threading.Timer(WRITE_S, writer.kill)
    overdue.start()
    try:
        if writer.stdout.readline().strip() == "held":
            return None
    finally:
        overdue.cancel()
    _, said = writer.communicate()
    return f"{name}: {remote_python.last_line(said)}"


def _release(writer: subprocess.Popen[str]) -> None:
    """Have the writer remove the file, and end."""
    overdue = threading.Timer(WRITE_S, writer.kill)
    overdue.start()
    with contextlib.suppress(OSError, ValueError):  # it has ended already
        writer.communicate()
    overdue.cancel()
