"""The registry of this user's groups, as files: found from any process.

A group has a folder below Jupyter's own runtime folder, which only its user may read: it
holds the group's keys, its logs, and ``group.json``, which says what was started for it.
The folder goes with the group, so a folder whose processes are gone is a group that was
left behind.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any

from jupyter_core.paths import jupyter_runtime_dir

from eai_notebook.errors import EaiError
from eai_notebook.process_lease import Started, end_processes, families, is_running, started

if TYPE_CHECKING:
    from collections.abc import Iterable

_FILE = "group.json"


@dataclass
class Entry:
    """What is recorded of one group.

    ``processes`` and ``owner`` are pids with the times the processes were started, on
    ``host``; the owner is the kernel that uses the group, if one does, and ``kept`` says
    that the group may outlive it. ``setup`` are the cells to replay after a restart, each with
    its ranks or None for all.
    """

    name: str
    size: int
    host: str
    since: float
    owner: Started | None
    kept: bool = False
    processes: list[Started] = field(default_factory=list)
    setup: list[tuple[str, list[int] | None]] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        """Where the group keeps its keys, its logs and this entry."""
        return groups_folder() / self.name

    @property
    def is_here(self) -> bool:
        """Whether the group was started on this machine, where its pids mean something."""
        return self.host == socket.gethostname()

    @property
    def state(self) -> str:
        """What has become of the group, in a word or two."""
        if not self.is_here:
            return "elsewhere"
        used = self.owner is not None and is_running(self.owner)
        if not any(map(is_running, self.processes)):
            return "starting" if used and not self.processes else "ended"
        if used:
            return "in use"
        return "kept" if self.kept else "left behind"

    @property
    def is_used(self) -> bool:
        """Whether a kernel uses the group, or is just starting it."""
        return self.state in ("starting", "in use")

    def write(self) -> None:
        """Put the entry on disk, whole or not at all."""
        new = self.folder / f"{_FILE}.new"
        new.write_text(json.dumps(asdict(self)))
        new.replace(self.folder / _FILE)

    def remove(self) -> None:
        """Forget the group, its keys and its logs."""
        shutil.rmtree(self.folder, ignore_errors=True)


def groups_folder() -> Path:
    """Return where the groups of this user are recorded."""
    return Path(jupyter_runtime_dir()) / "eai-groups"


def register(size: int) -> Entry:
    """Make the folder of a new group that this process owns."""
    while True:
        name = f"g{token_hex(2)}"
        try:
            (groups_folder() / name).mkdir(mode=0o700, parents=True)
        except FileExistsError:
            continue
        owner = started([os.getpid()])[0]
        entry = Entry(name, size, socket.gethostname(), time.time(), owner)
        entry.write()
        return entry


def entries() -> list[Entry]:
    """Return what is recorded, oldest first; a folder without an entry is passed over."""
    found = []
    for path in groups_folder().glob(f"*/{_FILE}"):
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):  # just being removed
            found.append(_read(json.loads(path.read_text())))
    return sorted(found, key=lambda entry: entry.since)


def find(name: str) -> Entry:
    """Return the entry of group `name`; raises `EaiError` if there is none."""
    for entry in entries():
        if entry.name == name:
            return entry
    raise EaiError(f"there is no group {name}", "`%eai list` shows those there are")


def reclaim(entry: Entry) -> int:
    """End what still runs of a group, and forget it; return how many processes that were."""
    ended = end_processes(families(entry.processes))
    entry.remove()
    return len(ended)


HEADINGS = ("group", "ranks", "host", "age", "state", "used by")


def table(found: Iterable[Entry]) -> str:
    """Return the entries as lines of text in columns, below a heading."""
    rows = [HEADINGS, *map(_row, found)]
    if len(rows) == 1:
        return "no groups are running"
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    return "\n".join(lines)


def _row(entry: Entry) -> tuple[str, ...]:
    user = f"process {entry.owner[0]}" if entry.owner and entry.is_used else ""
    age = _age(time.time() - entry.since)
    return entry.name, str(entry.size), entry.host, age, entry.state, user


def _age(seconds: float) -> str:
    """Return `seconds` in words.

    Examples:
        >>> _age(40), _age(7_300)
        ('40 s', '2 h')
    """
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length:.0f} {unit}"
    return f"{max(0, seconds):.0f} s"


def _read(fields: dict[str, Any]) -> Entry:
    pairs = [(int(pid), float(at)) for pid, at in fields["processes"]]
    owner = fields["owner"] and tuple(fields["owner"])
    setup = [(str(code), ranks) for code, ranks in fields["setup"]]
    return Entry(**{**fields, "processes": pairs, "owner": owner, "setup": setup})
