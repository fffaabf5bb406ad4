"""Run one script on every test host, and let its rank 0 set the links' rate while it runs.

Driver side: `run`. Rank side: `ask_rate` and `sent_bytes`.
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

from hosts.network import LINK  # noqa: E402 -- the tests' hosts are not a package of ours

if TYPE_CHECKING:
    from hosts.cluster import Hosts

_MARK = "eai-result:"
_said = time.perf_counter()
_THREADS = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")


def run(hosts: Hosts, script: Path, asked: dict[str, Any], timeout: float) -> Any:
    """Run ``script <asked as JSON>`` as one rank a host; return what rank 0 reported."""
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
        }
        command = hosts.mpirun(settings={"mpi_yield_when_idle": "1"})
        for name, value in environment.items():
            command += ["-x", f"{name}={value}"]
        root = {
            f"{who}_ALLOW_RUN_AS_ROOT{end}": "1"
            for who in ("OMPI", "PRTE")
            for end in ("", "_CONFIRM")
        }
        try:
            finished = subprocess.run(
                [*command, sys.executable, str(script), json.dumps(asked)],
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


def _serve(hosts: Hosts, folder: Path, done: threading.Event) -> None:
    """Shape the links as rank 0 asks."""
    while not done.wait(0.05):
        for wish in folder.glob("rate-*.json"):
            hosts.shape(json.loads(wish.read_text()))
            wish.rename(wish.with_suffix(".done"))


def ask_rate(rate_mbit: float | None) -> None:
    """Rank 0: have all links shaped; the other ranks must wait for it."""
    folder = Path(os.environ["EAI_BENCH_FOLDER"])
    wish = folder / f"rate-{time.monotonic_ns()}.json"
    part = wish.with_suffix(".part")
    part.write_text(json.dumps(rate_mbit))
    part.rename(wish)
    while not wish.with_suffix(".done").exists():
        time.sleep(0.02)


def sent_bytes() -> int:
    """Return the bytes this host has sent on its link so far, headers included."""
    for line in Path("/proc/self/net/dev").read_text().splitlines():
        name, _, counts = line.partition(":")
        if name.strip() == LINK:
            return int(counts.split()[8])
    message = f"this host has no {LINK}"
    raise RuntimeError(message)


def say(message: str) -> None:
    """Tell how far it is, from rank 0, with the seconds since the last time."""
    global _said
    if os.environ.get("OMPI_COMM_WORLD_RANK", "0") == "0":
        now = time.perf_counter()
        sys.stderr.write(f"{now - _said:6.1f} s  {message}\n")
        _said = now


def report(value: Any) -> None:
    """Rank 0: hand the result to `run`; the last thing it prints."""
    sys.stdout.write(f"\n{_MARK}{json.dumps(value)}\n")
    sys.stdout.flush()
