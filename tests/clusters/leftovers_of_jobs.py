"""What groups have left on the nodes of a test Slurm."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

import psutil
from hosts.cluster import pids_on

if TYPE_CHECKING:
    from clusters.slurm_cluster import SlurmCluster

DAEMONS = ("sshd", "slurmd")


def left_on_nodes(slurm: SlurmCluster, patience: float = 15.0) -> list[str]:
    """Return what runs on the nodes beside their daemons, once `patience` is over or nothing does."""
    until = time.monotonic() + patience
    while left := [each for node in slurm.nodes for each in _running_on(node)]:
        if time.monotonic() > until:
            break
        time.sleep(0.1)
    return left


def _running_on(node: str) -> list[str]:
    found = []
    for pid in pids_on(node):
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            line = " ".join(process.cmdline()) or process.name()
            if not any(daemon in line for daemon in DAEMONS):
                found.append(f"{node}: {pid} {line}")
    return found
