"""The registry of this user's groups, as files: found from any process.

A group has a folder below Jupyter's own runtime folder, which only its user may read: it
holds the group's keys, its logs, and ``group.json``, which says what was started for it.
The folder goes with the group, so a folder whose processes are gone is a group that was
left behind.

A folder's name is the group's, whatever its text says, and folders of other users are passed over.
Pids mean something only on the machine, since the boot and in the pid namespace they were recorded
in: a container may have the host's name and home folder.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import stat
import time
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any

from jupyter_core.paths import jupyter_runtime_dir

from eai_notebook.errors import EaiError
from eai_notebook.files import private_folder, write_private
from eai_notebook.process_lease import (
    FIRST_PIDS,
    Started,
    end_processes,
    families,
    is_running,
    machine,
    started,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

_FILE = "group.json"
_NAME = re.compile(r"g[0-9a-f]{4,}")
_LONGEST = 16 << 20
"""Bytes of an entry, with the cells to replay; a longer file is none of ours."""


@dataclass
class Entry:
    """What is recorded of one group.

    ``processes`` and ``owner`` are pids with the times the processes were started, on
    ``host`` (and as `lease.machine` describes it more closely); the owner is the kernel that uses the group, if one does, and ``kept`` says
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
    machine: str = ""
    boot: str = ""
    pids: str = ""
    launcher: str = "local"
    options: dict[str, Any] = field(default_factory=dict)
    folders: list[str] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        """Where the group keeps its keys, its logs and this entry."""
        return groups_folder() / self.name

    @property
    def is_here(self) -> bool:
        """Whether the group was started where its pids mean something now.

        After a restart of the machine they are nobody's, which is known as well. Of a container
        that is not this one, nothing is.
        """
        now = machine()
        here = (self.host, self.boot, self.pids) == (now["host"], now["boot"], now["pids"])
        return here or self._is_of_an_earlier_boot(now)

    def _is_of_an_earlier_boot(self, now: dict[str, str]) -> bool:
        same = self.host == now["host"] and bool(self.machine) and self.machine == now["machine"]
        return same and self.boot != now["boot"] and self.pids == now["pids"] == FIRST_PIDS

    @property
    def state(self) -> str:
        """What has become of the group, in a word or two."""
        now = machine()
        if not self.is_here:
            return "elsewhere"
        if self.boot != now["boot"]:
            return "ended"
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
        write_private(self.folder / _FILE, json.dumps(asdict(self)))

    def remove(self) -> None:
        """Forget the group, its keys and its logs."""
        for folder in [*map(Path, self.folders), self.folder]:
            shutil.rmtree(folder, ignore_errors=True)


def groups_folder() -> Path:
    """Return where the groups of this user are recorded."""
    return Path(jupyter_runtime_dir()) / "eai-groups"


def register(size: int, launcher: str = "local", options: dict[str, Any] | None = None) -> Entry:
    """Make the folder of a new group that this process owns.

    ``launcher`` and its `options` are kept for a session that attaches to the group.
    """
    while True:
        name = f"g{token_hex(2)}"
        try:
            (private_folder(groups_folder()) / name).mkdir(mode=0o700)
        except FileExistsError:
            continue
        owner = started([os.getpid()])[0]
        now = machine()
        entry = Entry(name, size, now["host"], time.time(), owner)
        entry.launcher, entry.options = launcher, dict(options or {})
        entry.machine, entry.boot, entry.pids = now["machine"], now["boot"], now["pids"]
        entry.write()
        return entry


def entries() -> list[Entry]:
    """Return what is recorded of this user's groups, oldest first.

    A folder without an entry is passed over, and so is one that somebody else has put there.
    """
    found = []
    for path in groups_folder().glob("*"):
        if not _NAME.fullmatch(path.name) or not _is_own_folder(path):
            continue
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):  # just being removed
            found.append(_read(path.name, json.loads(_own_text(path / _FILE))))
    return sorted(found, key=lambda entry: entry.since)


def find(name: str) -> Entry:
    """Return the entry of group `name`; raises `EaiError` if there is none."""
    for entry in entries():
        if entry.name == name:
            return entry
    raise EaiError(
        f"there is no group {name}", "`%eai list` shows those there are", code="group-unknown"
    )


def reclaim(entry: Entry) -> int:
    """End what still runs of a group, and forget it; return how many processes that were.

    Of a group that is not of this boot, its pids are others' by now: only its folder goes.
    """
    now = machine()
    here = (entry.boot, entry.pids) == (now["boot"], now["pids"])
    ended = end_processes(families(entry.processes)) if here else []
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
    host = entry.host if entry.launcher == "local" else f"{entry.launcher} from {entry.host}"
    return entry.name, str(entry.size), host, age, entry.state, user


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


def _is_own_folder(path: Path) -> bool:
    with contextlib.suppress(OSError):
        found = path.lstat()
        return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()
    return False


def _own_text(path: Path) -> str:
    """Return the text of a file of this user; `OSError` if it is a link or somebody else's."""
    number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(number, encoding="utf-8") as file:
        found = os.fstat(number)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
            raise PermissionError(str(path))
        text = file.read(_LONGEST + 1)
    if len(text) > _LONGEST:
        message = f"{path} is too long"
        raise ValueError(message)
    return text


def _read(name: str, text: dict[str, Any]) -> Entry:
    """Return the entry of group `name`, of which the text says everything but the name."""
    known = {each.name: text[each.name] for each in fields(Entry) if each.name in text}
    pairs = [(int(pid), float(at)) for pid, at in text["processes"]]
    owner = text["owner"] and (int(text["owner"][0]), float(text["owner"][1]))
    setup = [(str(code), ranks) for code, ranks in text["setup"]]
    return Entry(
        **{
            **known,
            "name": name,
            "size": int(text["size"]),
            "host": str(text["host"]),
            "since": float(text["since"]),
            "processes": pairs,
            "owner": owner,
            "setup": setup,
            "launcher": str(text.get("launcher", "local")),
            "options": dict(text.get("options", {})),
            "folders": [str(folder) for folder in text.get("folders", [])],
        }
    )
