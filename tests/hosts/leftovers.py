"""What a run of test hosts has made, written down first, so that a later run can remove it.

A test run that is killed cannot clean up. Each run therefore notes every namespace,
interface, control group, file and process in a file of its own *before* it makes it, and
every start removes what runs noted that are dead. Nothing is found by pattern: only what
is written down goes.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = Path(tempfile.gettempdir()) / "eai-test-hosts"
KINDS = ("namespaces", "interfaces", "groups", "folders", "pids")


class Remains:
    """The note of one run; `add` before making, `remove` when done."""

    def __init__(self, tag: str) -> None:
        me = psutil.Process()
        self._path = FOLDER / f"{tag}.json"
        self._noted: dict[str, Any] = {
            "owner": [me.pid, me.create_time()],
            **{kind: [] for kind in KINDS},
        }
        self._write()

    def add(self, kind: str, what: Any) -> None:
        """Note `what`: a name, a path, or for ``pids`` a pair of pid and start time."""
        self._noted[kind].append(what)
        self._write()

    def remove(self) -> None:
        """Remove everything noted, and the note last."""
        _remove_all(self._noted)
        self._path.unlink(missing_ok=True)

    def _write(self) -> None:
        half = self._path.with_suffix(".half")
        half.write_text(json.dumps(self._noted))
        half.replace(self._path)


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Keep other runs from choosing names and subnets, or reclaiming, at the same moment."""
    FOLDER.mkdir(mode=0o700, exist_ok=True)
    with (FOLDER / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def reclaim() -> list[str]:
    """Remove what dead runs have left; return their tags. Call it inside `alone`."""
    found = []
    for path in sorted(FOLDER.glob("*.json")):
        noted = json.loads(path.read_text())
        if not runs(*noted["owner"]):
            _remove_all(noted)
            path.unlink()
            found.append(path.stem)
    return found


def _remove_all(noted: dict[str, Any]) -> None:
    for pid, started in noted["pids"]:
        if runs(pid, started):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    for name in noted["namespaces"]:
        _empty(name)
    for name in noted["interfaces"]:
        _quietly("ip", "link", "del", name)
    for name in noted["namespaces"]:
        _quietly("ip", "netns", "del", name)
    for group in noted["groups"]:
        _remove_group(Path(group))
    for folder in noted["folders"]:
        shutil.rmtree(folder, ignore_errors=True)


def _empty(namespace: str) -> None:
    """End whatever still runs in a namespace of ours: it was started there by us, or by ssh."""
    for _ in range(50):
        found = _quietly("ip", "netns", "pids", namespace).split()
        if not found:
            return
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        time.sleep(0.02)


def _remove_group(group: Path) -> None:
    for _ in range(100):  # a killed process stays in its group until it is reaped
        with contextlib.suppress(OSError):
            group.rmdir()
        if not group.exists():
            return
        time.sleep(0.02)


def _quietly(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def runs(pid: int, started: float) -> bool:
    """Return whether the process that had this pid and start time still runs."""
    try:
        process = psutil.Process(pid)
        return process.create_time() == started and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
