"""Probe of `check --slurm`, run by all ranks of a job: do they sum, and where does the job listen?"""

from __future__ import annotations

import ipaddress
import json
import sys
from typing import Any

import numpy as np
import psutil

from eai_notebook.cluster import listening
from eai_notebook.collective.objects import gather_all
from eai_notebook.collective.self_test import MARK, probe


def is_open(addresses: dict[str, list[str]]) -> bool:
    """Return whether one of the programs listens on all interfaces.

    Examples:
        >>> is_open({"rank": ["10.0.0.1"], "mpirun": ["127.0.0.1"]}), is_open({"rank": ["::"]})
        (False, True)
    """
    return any(
        ipaddress.ip_address(each).is_unspecified for own in addresses.values() for each in own
    )


def sum_and_look() -> dict[str, Any]:
    """Return what `probe` found, and where this rank and the job's ``mpirun`` on its node listen.

    ``listens`` has the addresses by program; ``open_ranks`` are the ranks of whose programs one
    listens on all interfaces.
    """
    found = probe()
    from mpi4py import MPI

    me = psutil.Process()
    programs = [parent for parent in me.parents() if parent.name() in listening.MPIRUN]
    addresses = listening.listening(programs)
    if mine := listening.listening([me]):
        addresses["rank"] = next(iter(mine.values()))
    table = gather_all(MPI.COMM_WORLD, float(is_open(addresses)))
    return {**found, "listens": addresses, "open_ranks": np.flatnonzero(table).tolist()}


def main() -> None:
    """Print what rank 0 found as one line."""
    found = sum_and_look()
    if found["rank"] == 0:
        sys.stdout.write(f"\n{MARK}{json.dumps(found)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
