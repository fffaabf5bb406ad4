"""Benchmark the link and Open MPI's allreduce algorithms; a program run under ``mpirun``.

Run under ``mpirun`` by the kernel, laid out as the group will be, before its engines
start. Open MPI reads which algorithm to use at which message size from a rules file when
it starts. So the file given here has a row for each candidate at a size of its own, a few
bytes apart: one run measures them all, in turns. Each turn times a candidate on a link that it
has kept busy for a moment: an idle link takes short messages into its queues.
"""

from __future__ import annotations

import json
import sys
import time
import traceback
from typing import TYPE_CHECKING, Any

import numpy as np

from eai_notebook.cluster.allreduce_tuning.link_bandwidth import ring_goodput
from eai_notebook.collective.network_address import own_address
from eai_notebook.collective.objects import broadcast, gather_all

if TYPE_CHECKING:
    from mpi4py import MPI

MARK = "eai-tuning:"
"""What rank 0's line of result begins with."""
HOPELESS = 1.5
"""A candidate that took so many times the best is not tried again."""
MIDDLE = 1 << 20
"""From here on it is not tried at larger sizes, either: below, the number of messages decides."""
LARGE = 4 << 20
HOPELESS_LARGE = 1.15
"""The same from `LARGE` bytes on: what is slower there stays so, and tries take long."""
LEAST_TRIES = 3
PATIENT = 3.0
"""After so many times its share of the time, one try of each candidate has to do: the link is slow."""
MOST_TRIES = 25
SETTLE_S = 0.03
"""A link that was idle takes the first messages faster than it carries them: into its queues."""
IN_A_ROW = 3
"""Short messages timed at once, after those that settle the link."""


def measure(asked: dict[str, Any]) -> dict[str, Any]:
    """Return the link's goodput (bytes/s) and each candidate's times (s) at each size.

    `asked` has ``networks``, ``sizes`` (bytes), ``candidates`` (for each size, the numbers
    of the candidates to try), ``step`` (bytes between candidates), ``link_s`` and
    ``budget_s``, the seconds for all sizes together.
    """
    from mpi4py import MPI

    world = MPI.COMM_WORLD
    _show_progress(world)
    goodput = _link(world, asked["networks"], asked["link_s"])
    share = asked["budget_s"] / len(asked["sizes"])
    times: list[dict[int, list[float]]] = []
    hopeless: set[int] = set()
    for size, candidates in zip(asked["sizes"], asked["candidates"], strict=True):
        hopeful = [each for each in candidates if each not in hopeless]
        _show_progress(world)
        times.append(_race(world, size, hopeful, asked["step"], share))
        hopeless |= set(broadcast(world, sorted(_hopeless_from(size, times[-1]))))
    return {"rank": world.rank, "ranks": world.size, "goodput": goodput, "times": times}


def _show_progress(world: MPI.Intracomm) -> None:
    """Print an empty line, by which who waits knows that this is not stuck."""
    if world.rank == 0:
        sys.stdout.write("\n")
        sys.stdout.flush()


def _link(world: MPI.Intracomm, networks: list[str], seconds: float) -> float:
    """Return the goodput between the hosts, measured by the first rank of each."""
    from mpi4py import MPI

    here = world.Split_type(MPI.COMM_TYPE_SHARED)
    leaders = world.Split(0 if here.rank == 0 else 1)
    rate = ring_goodput(leaders, own_address(networks), seconds) if here.rank == 0 else 0.0
    return float(broadcast(world, rate))


def _race(
    world: MPI.Intracomm, size: int, candidates: list[int], step: int, seconds: float
) -> dict[int, list[float]]:
    """Return the times of each candidate at one size: all in turn, until the time is up."""
    count = (size + step * (max(candidates) + 1)) // 4
    data, total = np.ones(count, np.float32), np.zeros(count, np.float32)
    times: dict[int, list[float]] = {candidate: [] for candidate in candidates}
    running, begin = list(candidates), time.perf_counter()
    _one(world, data, total, size)  # opens what connections are still missing
    while running:
        for candidate in running:
            _show_progress(world)  # a slow link needs minutes for the largest sizes
            times[candidate] += _some(world, data, total, size + step * candidate)
        passed = time.perf_counter() - begin
        running = broadcast(world, _still_running(times, passed, seconds))
    return times


def _still_running(times: dict[int, list[float]], passed: float, seconds: float) -> list[int]:
    """Return the candidates worth another try; none when the time is up."""
    tries = max(map(len, times.values()))
    least = 1 if passed > PATIENT * seconds else LEAST_TRIES
    if tries >= MOST_TRIES or (tries >= least and passed > seconds):
        return []
    slow = _slow(times)
    return [candidate for candidate in times if candidate not in slow]


def _hopeless_from(size: int, times: dict[int, list[float]]) -> set[int]:
    """Return the candidates that need not be tried at larger sizes than this one."""
    if size < MIDDLE:
        return set()
    return _slow(times, HOPELESS_LARGE if size >= LARGE else HOPELESS)


def _slow(times: dict[int, list[float]], bound: float = HOPELESS) -> set[int]:
    """Return the candidates without hope; the first is what all are compared with, and stays."""
    middle = {candidate: float(np.median(taken)) for candidate, taken in times.items()}
    limit = bound * min(middle.values())
    return {each for each in list(times)[1:] if middle[each] > limit}


def _some(world: MPI.Intracomm, data: np.ndarray, total: np.ndarray, size: int) -> list[float]:
    """Return the times of a few sums in a row on a settled link; of one, if that takes long."""
    passed = _one(world, data, total, size)
    if passed >= SETTLE_S:
        return [passed]
    while passed < SETTLE_S:
        passed += _one(world, data, total, size)
    return [_one(world, data, total, size) for _ in range(IN_A_ROW)]


def _one(world: MPI.Intracomm, data: np.ndarray, total: np.ndarray, size: int) -> float:
    count = size // 4
    world.Barrier()
    begin = time.perf_counter()
    world.Allreduce(data[:count], total[:count])
    return float(gather_all(world, time.perf_counter() - begin).mean())


def main() -> None:
    """Measure what the command line asks for; a rank that fails ends them all."""
    from mpi4py import MPI

    try:
        found = measure(json.loads(sys.argv[1]))
    except Exception:
        traceback.print_exc()
        MPI.COMM_WORLD.Abort(1)  # the others would wait for it without end
        raise
    if found["rank"] == 0:
        sys.stdout.write(f"\n{MARK}{json.dumps(found)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
