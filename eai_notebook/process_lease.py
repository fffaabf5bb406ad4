"""Process lease: processes and files end when the process that started them is gone.

A kernel, or a rank, that is killed cannot clean up after itself. So a keeper process, in a
session of its own where its signals do not reach it, holds the other end of a pipe to it.
When the pipe closes, whatever the reason, it ends the registered processes and what they
have started - by pid and start time, never by name.

Run as ``python -m eai_notebook.process_lease``; it reads one JSON object a line.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psutil

from eai_notebook.python_command import module_command

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

GRACE_S = 5.0
LOOK_S = 0.02
_MARK: Final = "EAI_LEASE"
NEAR_S = 1e-3
"""Two start times that differ by less are the same: they are multiples of a clock tick (10 ms)."""
_JOB = re.compile(r"-(\d+)@")
"""In the name of an MPI job: the pid of its ``mpirun``."""

Started = tuple[int, float]
"""A process, by its pid and when it was started, in seconds since the machine's boot.

A later process of that pid is another. On Linux the time is the kernel's own and does not move when
the clock is set. Across boots, and in other pid namespaces, it means nothing: see `machine`.
"""


class Lease:
    """The owner's end: name the processes with `cover`, then `end` them or `release` them.

    ``patience`` is how many seconds they get to leave by themselves when the owner is gone.
    """

    def __init__(self, patience: float = 0.0) -> None:
        self._covered: list[Started] = []
        self._folders: list[str] = []
        self._keeper = subprocess.Popen(
            module_command("eai_notebook.process_lease"),
            stdin=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.mark = {_MARK: secrets.token_hex(8)}
        """A variable for the environment of processes that must not outlive this one: the keeper
        finds them by it even if this process ends before it could `cover` them."""
        self._send({"patience": patience, "mark": self.mark[_MARK]})

    def cover(self, pids: Iterable[int]) -> list[Started]:
        """Have the processes `pids` ended with the lease; return them with their start times."""
        known = started(pids)
        self._covered += known
        self._send({"cover": known})
        return known

    def cover_folder(self, folder: str) -> None:
        """Have `folder` removed with the lease."""
        self._folders.append(folder)
        self._send({"folder": folder})

    def end(self) -> None:
        """End what is covered and still runs, and the lease with it."""
        end_processes(self._covered)
        _remove(self._folders)
        self.release()

    def release(self) -> None:
        """Send the keeper home; what it covered is left as it is."""
        self._send({"release": True})
        if self._keeper.stdin and not self._keeper.stdin.closed:
            self._keeper.stdin.close()
        self._keeper.wait(GRACE_S)

    def _send(self, message: dict[str, object]) -> None:
        if self._keeper.stdin and not self._keeper.stdin.closed:
            try:
                self._keeper.stdin.write(json.dumps(message) + "\n")
                self._keeper.stdin.flush()
            except BrokenPipeError:  # the keeper is gone; there is no receiver left
                pass


@contextlib.contextmanager
def leased_process(
    command: Sequence[str],
    environment: Mapping[str, str] | None = None,
    *,
    patience: float = GRACE_S,
) -> Iterator[subprocess.Popen[str]]:
    """Run `command`, whose output is to be read as text, for a block; it ends with the block or with this process.

    It is then asked to end, and killed with all that it has started after `patience` seconds. ``environment`` is
    its whole environment; None for this process's.
    """
    lease = Lease(patience)
    with subprocess.Popen(
        command,
        env={**(os.environ if environment is None else environment), **lease.mark},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        covered = lease.cover([process.pid])
        try:
            yield process
        finally:
            if process.poll() is None:
                every = families(covered)
                end_processes(covered, patience)
                end_processes(every)
            lease.end()


def started(pids: Iterable[int]) -> list[Started]:
    """Return those of `pids` that run, with their start times."""
    found = []
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            found.append((pid, start_time(psutil.Process(pid))))
    return found


def start_time(process: psutil.Process) -> float:
    """Return when `process` was started, in seconds since the boot (elsewhere than on Linux: 1970).

    Raises:
        psutil.NoSuchProcess: it is gone.
    """
    if not sys.platform.startswith("linux"):
        return process.create_time()
    try:
        text = Path(f"/proc/{process.pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        raise psutil.NoSuchProcess(process.pid) from None
    # The name, in brackets, may hold anything; the start time is the 22nd field of the line.
    return int(text.rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")


def command_line(process: psutil.Process) -> list[str]:
    """Return a process's command; empty where it has ended, also if nobody has reaped it yet."""
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


def machine() -> dict[str, str]:
    """Return what a pid belongs to: ``host``, ``machine``, ``boot`` and ``pids`` (its namespace).

    Two containers may have the same host name; a machine has it again after a restart.
    """
    return {
        "host": socket.gethostname(),
        "machine": _text("/etc/machine-id"),
        "boot": _text("/proc/sys/kernel/random/boot_id"),
        "pids": _link("/proc/self/ns/pid"),
    }


FIRST_PIDS = "pid:[4026531836]"
"""The pid namespace that a machine boots with; containers have others."""


def _text(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _link(path: str) -> str:
    try:
        return os.readlink(path)  # noqa: PTH115  it names no path
    except OSError:
        return ""


def is_running(process: Started) -> bool:
    """Return whether this very process still runs; one that only waits to be buried does not."""
    found = _find(process)
    try:
        return found is not None and found.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def families(processes: Iterable[Started]) -> list[Started]:
    """Return those of `processes` that still run, and all that they have started, each once.

    What they started and has outlived its parent is found by its process group or session, or by
    the name of its MPI job in its environment.
    """
    known = list(processes)
    found: dict[int, float] = {}
    for process in known:
        with contextlib.suppress(psutil.NoSuchProcess):
            if head := _find(process):
                children = head.children(recursive=True)
                found.update(started(one.pid for one in (head, *children)))
    found.update(_members(known))
    return list(found.items())


def _members(leaders: list[Started]) -> list[Started]:
    """Return the processes of the groups, sessions and MPI jobs that `leaders` lead or have led."""
    # The system gives no new process the number of a group that still has members.
    since = {pid: at for pid, at in leaders if _find((pid, at)) or not psutil.pid_exists(pid)}
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            led_by = {os.getpgid(process.pid), os.getsid(process.pid), _mpirun_of(process)}
            led_by &= since.keys()
            if led_by:
                found += [
                    (pid, at)
                    for pid, at in started([process.pid])
                    if any(at > since[leader] - NEAR_S for leader in led_by)
                ]
    return found


def _mpirun_of(process: psutil.Process) -> int:
    """Return the pid of the ``mpirun`` that `process` descends from by its environment, or 0."""
    found = _JOB.search(process.environ().get("PMIX_NAMESPACE", ""))
    return int(found[1]) if found else 0


def end_processes(covered: Iterable[Started], grace: float = GRACE_S) -> list[int]:
    """Terminate, then kill, the processes that still are the ones covered; return their pids.

    Processes of other users are left alone, also by root: no group has any.
    """
    alive = [process for process in covered if is_running(process) and _is_ours(process)]
    _apply_to_each(alive, psutil.Process.terminate)
    _apply_to_each(still_running(alive, grace), psutil.Process.kill)
    return [pid for pid, _ in alive]


def _is_ours(process: Started) -> bool:
    found = _find(process)
    try:
        return found is not None and found.uids().effective == os.geteuid()
    except psutil.NoSuchProcess:
        return False


def _apply_to_each(processes: Iterable[Started], what: Callable[[psutil.Process], None]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            if found := _find(process):
                what(found)


def still_running(processes: list[Started], patience: float) -> list[Started]:
    """Return those that do not end in `patience` seconds.

    `psutil` would wait, too, for ended ones to be buried by their parent, which may take its time.
    """
    until = time.monotonic() + patience
    while running := [process for process in processes if is_running(process)]:
        if time.monotonic() > until:
            break
        time.sleep(LOOK_S)
    return running


def _find(process: Started) -> psutil.Process | None:
    """Return the process, unless it is gone or its pid is another's by now."""
    pid, at = process
    with contextlib.suppress(psutil.NoSuchProcess):
        found = psutil.Process(pid)
        if abs(start_time(found) - at) < NEAR_S:
            return found
    return None


def _marked(mark: str) -> list[Started]:
    """Return the processes whose environment has the mark of a lease."""
    found: list[int] = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if mark and process.environ().get(_MARK) == mark:
                found.append(process.pid)
    return started(found)


def main() -> None:
    """Keep the lease: wait for the pipe to close, then end what is still covered."""
    covered: list[Started] = []
    folders: list[str] = []
    patience, mark = 0.0, ""
    for line in sys.stdin:
        message = json.loads(line)
        if "release" in message:
            return
        covered += [(pid, at) for pid, at in message.get("cover", [])]
        folders += [message["folder"]] if "folder" in message else []
        patience = message.get("patience", patience)
        mark = message.get("mark", mark)
    every = families([*covered, *_marked(mark)])
    still_running(covered, patience)
    end_processes(every)
    _remove(folders)


def _remove(folders: list[str]) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
