"""Runs a schedule's ranks, on this machine or on test hosts, and loses the hosts that are to be lost."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psutil

HERE: Final = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))

import _harness as harness  # noqa: E402
from _elastic_schedules import MOST_HOSTS, Lines, Said, Schedule  # noqa: E402
from hosts.cluster import Hosts, pids_on  # noqa: E402
from preloaded_python import PreloadedPython  # noqa: E402

from eai_notebook.cluster.elastic_options import LEAST_RANKS  # noqa: E402
from eai_notebook.cluster.forwarding import forwarded  # noqa: E402
from eai_notebook.cluster.hostfile import Host  # noqa: E402
from eai_notebook.cluster.mpi_environment import (  # noqa: E402
    AWAY,
    find_mpirun,
    rank_environment,
)
from eai_notebook.cluster.mpirun_arguments import mpirun_arguments  # noqa: E402
from eai_notebook.cluster.preflight import Placement, prepare  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Self

RANK: Final = HERE / "_elastic_rank.py"
HANG_S: Final = 180.0
"""When a schedule counts as one that hangs."""
STARVED_S: Final = 600.0
"""The same where the ranks have hardly had a processor: MPI asks for messages all the time it waits."""
USED_S: Final = 30.0
"""Seconds of a processor that ranks have had together if they do not lack one."""
SETTLE_S: Final = 5.0
"""How long what a schedule has started may take to be gone."""
SETTLE_AWAY_S: Final = 25.0
"""The same on hosts: a host that was cut off first has to give the others up."""
_LOOK_S: Final = 0.005
_CONTROLLER: Final = "EAI_BENCH_CONTROLLER"


class Runs:
    """Runs schedules one after the other; their ranks are forks of one process."""

    def __init__(self) -> None:
        environment = {**os.environ, **rank_environment(2), "PYTHONPATH": path_of_ranks()}
        self._python = PreloadedPython(Path(tempfile.mkdtemp(prefix="eai-py-")), environment)
        self._rank = self._python.command(RANK)  # waits for it
        self._known = {each.pid for each in psutil.Process().children(recursive=True)}
        self._away: Away | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._away is not None:
            self._away.close()
        self._python.close()

    def run(self, schedule: Schedule) -> Said | None:
        """Run a schedule; return what has come of it, None if it hangs."""
        folder = Path(tempfile.mkdtemp(prefix="eai-elastic-"))
        rank = [*self._rank, json.dumps(schedule.events), str(folder)]
        if not schedule.is_away:
            return self._run_here(schedule, rank, folder)
        if self._away is None:
            self._away = Away()
            self._known |= {each.pid for each in psutil.Process().children(recursive=True)}
        return self._away.run(schedule, rank, folder)

    def _run_here(self, schedule: Schedule, rank: list[str], folder: Path) -> Said | None:
        command = [find_mpirun(), "--with-ft", "ulfm", "-n", str(schedule.size), "--oversubscribe"]
        environment = {
            **os.environ,
            **rank_environment(schedule.size),
            "PYTHONPATH": path_of_ranks(),
            "OMPI_MCA_btl_tcp_if_include": "lo",
            "EAI_RANK_COMMAND": json.dumps(rank),
            LEAST_RANKS: str(schedule.least),
        }
        with _started([*command, "--bind-to", "none", *rank], environment, folder) as process:
            began = time.monotonic()
            while process.poll() is None:
                if _hangs(folder, began):
                    return None
                time.sleep(_LOOK_S)
        return Said(read_lines(folder, schedule.size), {}, self._left_behind())

    def _left_behind(self) -> int:
        """Return how many processes of a schedule are still there after a while."""
        ends = time.monotonic() + SETTLE_S
        while True:
            found = {each.pid for each in psutil.Process().children(recursive=True)} - self._known
            if not found or time.monotonic() > ends:
                return len(found)
            time.sleep(0.05)


class Away:
    """Test hosts with an address that their ranks must reach, as a group's must its controller."""

    def __init__(self) -> None:
        self._hosts = Hosts(MOST_HOSTS)
        os.environ.update(self._hosts.environment())
        self._placement = prepare([Host(name, 1) for name in self._hosts.names])
        self._door = socket.create_server((self._placement.controller, 0), backlog=64)
        self._controller = f"tcp://{self._placement.controller}:{self._door.getsockname()[1]}"
        threading.Thread(target=self._answer, daemon=True).start()

    def close(self) -> None:
        """Remove the hosts."""
        self._door.close()
        self._hosts.close()

    def _answer(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self._door.accept()[0].close()

    def run(self, schedule: Schedule, rank: list[str], folder: Path) -> Said | None:
        """Run a schedule; return what has come of it, None if it hangs."""
        placement = dataclasses.replace(
            self._placement,
            hosts=tuple(
                Host(name, slots)
                for name, slots in zip(self._hosts.names, schedule.slots, strict=False)
            ),
        )
        lost: dict[int, float] = {}
        cut: list[str] = []
        command, environment = self._command(placement, schedule, rank)
        with _started(command, environment, folder) as process:
            began = time.monotonic()
            while not self._is_over(schedule, folder, process):
                if _hangs(folder, began):
                    self._clear(cut)
                    return None
                self._lose_hosts(schedule, folder, lost, cut)
                time.sleep(_LOOK_S)
            for name in cut:
                self._hosts.mend(name)
        left = self._left_behind()
        self._clear([])
        return Said(read_lines(folder, schedule.size), lost, left)

    def _command(
        self, placement: Placement, schedule: Schedule, rank: Sequence[str]
    ) -> tuple[list[str], dict[str, str]]:
        more = {
            **rank_environment(max(schedule.slots)),
            **self._hosts.environment(),
            **AWAY,
            "PYTHONPATH": path_of_ranks(),
            LEAST_RANKS: str(schedule.least),
            _CONTROLLER: self._controller,
            "EAI_FORWARD": _CONTROLLER,
            "OMPI_MCA_mpi_yield_when_idle": "1",
        }
        words = [find_mpirun(), "-n", str(schedule.size)]
        words += mpirun_arguments(placement, {}, elastic=True)
        words += ["--with-ft", "ulfm", *forwarded(more)]
        return [*words, "-x", "OMPI_MCA_mpi_yield_when_idle", *rank], {**os.environ, **more}

    def _is_over(self, schedule: Schedule, folder: Path, process: subprocess.Popen[bytes]) -> bool:
        """Return whether all ranks have ended, or cannot start any more."""
        pids = _pids(folder)
        if len(pids) >= schedule.size:
            return not any(map(psutil.pid_exists, pids))
        if process.poll() is None:
            return False
        time.sleep(1.0)
        return not any(self._alive())

    def _lose_hosts(
        self, schedule: Schedule, folder: Path, lost: dict[int, float], cut: list[str]
    ) -> None:
        """Lose the hosts of ranks that have come to where it is due."""
        for _, rank, what, _ in schedule.events:
            asked, done = folder / f"lose-{rank}", folder / f"lost-{rank}"
            if not what.startswith("host ") or rank in lost or not asked.exists():
                continue
            name = self._hosts.names[schedule.host_of(rank)]
            doomed = [] if what == "host silent" else _not_sshd(name)
            lost[rank] = time.time()
            if what == "host silent":
                self._hosts.cut(name)
                cut.append(name)
            for pid in doomed:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            done.touch()

    def _alive(self) -> list[int]:
        return [pid for name in self._hosts.names for pid in _not_sshd(name)]

    def _left_behind(self) -> int:
        """Return how many processes are still on the hosts after a while."""
        ends = time.monotonic() + SETTLE_AWAY_S
        while (found := self._alive()) and time.monotonic() < ends:
            time.sleep(0.1)
        for pid in found:
            with contextlib.suppress(psutil.NoSuchProcess):
                harness.say(f"left behind: {' '.join(psutil.Process(pid).cmdline())[:200]}")
        return len(found)

    def _clear(self, cut: list[str]) -> None:
        """Make the hosts ready for the next schedule."""
        for pid in self._alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for name in cut:
            self._hosts.mend(name)


def _not_sshd(host: str) -> list[int]:
    """Return the processes on a host that are no part of its ssh server."""
    found = []
    for pid in pids_on(host):
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            if "sshd" not in process.name() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(pid)
    return found


@contextlib.contextmanager
def _started(command: list[str], environment: dict[str, str], folder: Path) -> Any:
    """Run a command with its output in a file, and end it after the block."""
    with (folder / "output").open("w") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
        try:
            yield process
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(SETTLE_S)
            process.kill()
            process.wait()


def _pids(folder: Path) -> list[int]:
    """Return the processes of the ranks that have come so far as to write it down."""
    said = [file.read_text() for file in folder.glob("pid-*")]
    return [int(text) for text in said if text.endswith("\n")]


def _hangs(folder: Path, began: float) -> bool:
    """Return whether ranks that began at a time of the monotonic clock hang, and where, if so."""
    passed = time.monotonic() - began
    if passed < HANG_S:
        return False
    used = 0.0
    for pid in _pids(folder):
        with contextlib.suppress(psutil.NoSuchProcess):
            used += sum(psutil.Process(pid).cpu_times()[:2])
    is_hanging = used > USED_S or passed > STARVED_S
    if is_hanging:
        _have_it_said_where(folder)
    return is_hanging


def _have_it_said_where(folder: Path) -> None:
    """Have ranks that hang write down where all their threads are; it stays in `folder`."""
    for pid in _pids(folder):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGUSR2)
    time.sleep(1.0)
    harness.say(f"it hangs: see {folder}")


def read_lines(folder: Path, size: int) -> list[Lines]:
    """Return what each of `size` ranks and of newcomers has written, in the order of their numbers."""
    files = {int(file.stem): file for file in folder.glob("*.jsonl")}
    found: list[Lines] = [[] for _ in range(max([size - 1, *files]) + 1)]
    for number, file in files.items():
        for line in file.read_text().splitlines():
            with contextlib.suppress(json.JSONDecodeError):  # a rank was killed as it wrote it
                found[number].append(json.loads(line))
    return found


def path_of_ranks() -> str:
    """Return where ranks look for modules."""
    return os.pathsep.join([str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
