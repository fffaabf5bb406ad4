"""Rank program of `allreduce.py`: time an allreduce of each size, and plain TCP."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING

import numpy as np

from eai_notebook.cluster.allreduce_tuning.link_bandwidth import ring_goodput
from eai_notebook.collective.network_address import own_address

if TYPE_CHECKING:
    from mpi4py import MPI

MARK = "allreduce:"
LINK_S = 0.6


def main() -> None:
    """Time every size as often as asked; rank 0 prints the seconds and the link's bytes/s."""
    from mpi4py import MPI

    asked = json.loads(sys.argv[1])
    world = MPI.COMM_WORLD
    address = own_address(asked["networks"])
    links = [ring_goodput(world, address, LINK_S)]
    seconds = {
        size: _times(world, size, tries)
        for size, tries in zip(asked["sizes"], asked["tries"], strict=True)
    }
    links.append(ring_goodput(world, address, LINK_S))
    if world.rank == 0:
        found = {"link": links, "seconds": seconds}
        sys.stdout.write(f"\n{MARK}{json.dumps(found)}\n")
        sys.stdout.flush()


def _times(world: MPI.Intracomm, size: int, tries: int) -> list[float]:
    """Return the ranks' mean time of each try; one before them opens the connections."""
    data, total = np.ones(size // 4, np.float32), np.zeros(size // 4, np.float32)
    taken = []
    for _ in range(tries + 1):
        world.Barrier()
        begin = time.perf_counter()
        world.Allreduce(data, total)
        taken.append(world.allreduce(time.perf_counter() - begin) / world.size)
    assert total[0] == world.size
    return taken[1:]


if __name__ == "__main__":
    main()
