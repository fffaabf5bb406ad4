"""Run one script on every test host; rank 0 sets the rate of links and the cores of hosts.

Driver side: `run`. Rank side: `ask_rate`, `ask_cores` and `sent_bytes`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY / "tests"))

import _harness as harness  # noqa: E402 -- the tests' hosts are not a package of ours
from hosts.network import LINK  # noqa: E402

from eai_notebook.cluster.allreduce_tuning import algorithm_choice  # noqa: E402
from eai_notebook.cluster.hostfile import Host  # noqa: E402
from eai_notebook.cluster.preflight import prepare  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hosts.cluster import Hosts

    from eai_notebook.cluster.preflight import Placement

SHARED_CORES = {
    "OMPI_MCA_mpi_yield_when_idle": "1",
    "OMPI_MCA_threads_pthreads_yield_strategy": "nanosleep",
}
"""The environment of ranks whose hosts share this machine's cores, with no share of their own.

They sleep while they wait. A rank on a host of its own asks the network again and again, and takes
nothing from the others; here it would keep them from what they have to do.
"""

_MARK = "eai-result:"
_said = time.perf_counter()
_THREADS = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")


def choose_ring(hosts: Hosts) -> tuple[Placement, algorithm_choice.AllreduceChoice, dict[str, str]]:
    """Choose how ranks on `hosts` sum, as `%eai up --hosts` does.

    Returns where they are placed, the choice, and the MCA parameters that make it so.
    """
    os.environ.update(hosts.environment())
    placement = prepare([Host(name, 1) for name in hosts.names])
    choice = algorithm_choice.choose(placement, harness.say, again=True)
    assert choice is not None
    return placement, choice, algorithm_choice.apply(placement, choice)


def run(
    hosts: Hosts,
    script: Path,
    asked: dict[str, Any],
    timeout: float,
    *,
    pinned: bool = False,
    ring: Mapping[str, str] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Any:
    """Run ``script <asked as JSON>`` as one rank a host; return what rank 0 reported.

    The ranks sum as Open MPI does by itself, or as the MCA parameters in `ring` and the variables
    they are `environment` say.

    If `pinned`, every host stays on one of this machine's cores. A host with a share of a core
    needs that: on two at once, a thread that waits for the network would use up what the one
    that computes has to share with it; on one, it makes room.
    """
    with tempfile.TemporaryDirectory() as folder:
        done = threading.Event()
        shaper = threading.Thread(target=_serve, args=(hosts, Path(folder), done))
        shaper.start()
        environment = {
            "PYTHONPATH": f"{REPOSITORY}:{Path(__file__).parent}",
            "EAI_BENCH_FOLDER": folder,
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "HOROVOD_STALL_CHECK_DISABLE": "1",
            **dict.fromkeys(_THREADS, "1"),
            **(environment or {}),
        }
        command = hosts.mpirun(settings={"mpi_yield_when_idle": "1", **(ring or {})})
        for name, value in environment.items():
            command += ["-x", f"{name}={value}"]
        cores = len(os.sched_getaffinity(0))
        own = f'exec taskset -c $((OMPI_COMM_WORLD_RANK % {cores})) "$0" "$@"'
        pin = ["sh", "-c", own] if pinned else []
        root = {
            f"{who}_ALLOW_RUN_AS_ROOT{end}": "1"
            for who in ("OMPI", "PRTE")
            for end in ("", "_CONFIRM")
        }
        try:
            finished = subprocess.run(
                [*command, *pin, sys.executable, str(script), json.dumps(asked)],
                env={**os.environ, **hosts.environment(), **root},
                stdout=subprocess.PIPE,
                text=True,
                timeout=timeout,
                check=True,
            )
        finally:
            done.set()
            shaper.join()
    return json.loads(finished.stdout.partition(_MARK)[2])


def _serve(hosts: Hosts, wishes: Path, done: threading.Event) -> None:
    """Shape the links and limit the hosts as rank 0 asks."""
    grant = {"rate": hosts.shape, "cores": hosts.set_cores}
    while not done.wait(0.05):
        for wish in wishes.glob("*.json"):
            what, value = json.loads(wish.read_text())
            grant[what](value)
            wish.rename(wish.with_suffix(".done"))


def ask_rate(rate_mbit: float | None) -> None:
    """Rank 0: have all links shaped; the other ranks must wait for it."""
    _ask("rate", rate_mbit)


def ask_cores(cores: float | None) -> None:
    """Rank 0: have all hosts limited to so many cores each; the other ranks must wait for it."""
    _ask("cores", cores)


def _ask(what: str, value: float | None) -> None:
    """Wish for something and wait until it is so."""
    wish = folder() / f"{what}-{time.monotonic_ns()}.json"
    part = wish.with_suffix(".part")
    part.write_text(json.dumps([what, value]))
    part.rename(wish)
    while not wish.with_suffix(".done").exists():
        time.sleep(0.02)


def folder() -> Path:
    """Return a folder that this run's ranks share, and no other run."""
    return Path(os.environ["EAI_BENCH_FOLDER"])


def sent_bytes() -> int:
    """Return the bytes this host has sent on its link so far, headers included."""
    for line in Path("/proc/self/net/dev").read_text().splitlines():
        name, _, counts = line.partition(":")
        if name.strip() == LINK:
            return int(counts.split()[8])
    message = f"this host has no {LINK}"
    raise RuntimeError(message)


def say(message: str) -> None:
    """Print progress, from rank 0, with the seconds since the last time."""
    global _said
    if os.environ.get("OMPI_COMM_WORLD_RANK", "0") == "0":
        now = time.perf_counter()
        sys.stderr.write(f"{now - _said:6.1f} s  {message}\n")
        _said = now


def report(value: Any) -> None:
    """Rank 0: hand the result to `run`; the last thing it prints."""
    sys.stdout.write(f"\n{_MARK}{json.dumps(value)}\n")
    sys.stdout.flush()
