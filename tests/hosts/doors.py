"""Where programs on the test hosts, and `mpirun` on this machine, listen while something runs."""

from __future__ import annotations

import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from hosts.cluster import pids_on
from typing_extensions import Self

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hosts.cluster import Hosts

_LOOK_S = 0.1
_PRIVATE = ("127.", "[::1]", "[::ffff:127.")


class Doors:
    """Looks again and again while its ``with`` block runs, at programs whose command has a word.

    Attributes:
        seen: Where each host, or "here", was seen listening.
    """

    def __init__(self, hosts: Hosts, programs: Sequence[str]) -> None:
        self._programs = programs
        self._addresses = dict(zip(hosts.names, hosts.addresses, strict=True))
        self._addresses["here"] = hosts.desk_address
        self.seen: dict[str, set[str]] = {name: set() for name in self._addresses}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def open(self) -> dict[str, list[str]]:
        """Of each host, the doors that are neither on loopback nor on the hosts' network."""
        found = {}
        for name, doors in self.seen.items():
            address = self._addresses[name]
            allowed = (*_PRIVATE, f"{address}:", f"[::ffff:{address}]")
            found[name] = sorted(door for door in doors if not door.startswith(allowed))
        return found

    def look(self) -> None:
        """Note where they listen now."""
        for name, doors in self.seen.items():
            here = name == "here"
            inside = [] if here else ["ip", "netns", "exec", name]
            said = subprocess.run(
                [*inside, "ss", "-Hltnp"], capture_output=True, text=True, check=False
            ).stdout
            pids = [one.pid for one in psutil.Process().children(recursive=True)]
            marks = {
                f"pid={pid}," for pid in (pids if here else pids_on(name)) if self._is_one(pid)
            }
            lines = (line for line in said.splitlines() if any(mark in line for mark in marks))
            doors.update(line.split()[3] for line in lines)

    def _is_one(self, pid: int) -> bool:
        try:
            words = Path(f"/proc/{pid}/cmdline").read_text()
        except OSError:
            return False
        return any(program in words for program in self._programs)

    def _watch(self) -> None:
        while not self._stop.wait(_LOOK_S):
            self.look()
