"""How a rank's process got processors: time it ran, time it was ready and had none.

Linux counts both for every thread (``/proc/PID/task/TID/schedstat``). A rank that computes for
one second and waits three for a core takes four, and its ledger alone cannot say why.

The threads that exchange are counted by themselves. They wait for messages by asking for them
again and again, so they want a core all the time, and one that they have to wait for costs the
training at most what an exchange needs of it. And a process has threads that no step waits for,
such as those that talk to the notebook: that these lack a core costs nothing.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psutil

if TYPE_CHECKING:
    from collections.abc import Mapping

Use = dict[str, float]
"""Seconds since a time: ``ran`` and ``waited`` of all threads together, ``wall``, ``machine``
that all processors of the host were busy with anything; ``cores``, how many the process may
use; and, where they are known, ``exchange_ran`` and ``exchange_waited`` of the threads that
exchange, ``step_ran`` and ``step_waited`` of those that a step's computing goes through. A name is
absent where the system does not say it."""

ENOUGH: Final = 0.9
"""Ranks that get at least this share of the processor time that they could use lack no cores."""

ENOUGH_TO_POLL: Final = 0.6
"""The same of threads that exchange: they ask for a core all the time and seldom need it at once."""

STRANGERS: Final = 0.1
"""It is other processes' doing when these have at least this share of the busy time."""

_TASKS: Final = Path("/proc/self/task")
_NS: Final = 1e-9

_COMPUTES: Final = "tf_Compute"
"""What TensorFlow calls the threads that run a graph's operations."""

_FULL: Final = 0.995
"""The load of cores that are never idle: the system's counts are not finer."""

_LITTLE_S: Final = 1e-3
"""Threads that asked for less processor time than this lack none."""


@dataclass(frozen=True)
class Shortage:
    """What ranks lack: ``share`` is the processor time that they got of what they could use.

    ``exchange`` is the same for the threads that exchange, ``share`` for all others. ``delay`` is
    how long a rank's threads, added up, waited for a core in a second, ``exchange_delay`` those
    that exchange: nothing can be lost to a lack of cores beyond that. Both are infinite where they
    are not known. ``others`` is the share of their hosts' busy time that was not theirs; ``cores``
    are those of one host, ``ranks`` how many of ours share them. ``theirs`` is what of a rank's waiting
    for a core there would not be without others' processes: the ranks' own threads wait for each other.
    """

    share: float
    others: float
    cores: int
    ranks: int
    exchange: float
    delay: float = math.inf
    exchange_delay: float = math.inf
    theirs: float = 1.0


def now(exchange: frozenset[int] = frozenset(), training: int | None = None) -> Use:
    """Return the sums of this process so far; empty names where the system keeps none.

    ``exchange`` are the system's numbers of the threads that exchange, ``training`` that of the one
    which calls the training steps.

    Examples:
        >>> now()["wall"] > 0
        True
    """
    use: Use = {"wall": time.monotonic(), "ran": time.process_time()}
    with contextlib.suppress(OSError, ValueError):
        ran, waited, names = _of_threads()
        use["waited"] = sum(waited.values())
        if training in waited:
            step = {each for each, name in names.items() if name == _COMPUTES} | {training}
            use["step_ran"] = sum(ran[each] for each in step - exchange)
            use["step_waited"] = sum(waited[each] for each in step - exchange)
        if exchange & waited.keys():
            use["exchange_ran"] = sum(ran[each] for each in exchange & ran.keys())
            use["exchange_waited"] = sum(waited[each] for each in exchange & waited.keys())
    with contextlib.suppress(OSError, AttributeError, RuntimeError):
        times = psutil.cpu_times()
        # Guests are in user already; idle and waiting for a disk is not busy.
        use["machine"] = times.user + times.nice + times.system + getattr(times, "steal", 0.0)
    with contextlib.suppress(AttributeError, OSError):
        use["cores"] = float(len(os.sched_getaffinity(0)))
    return use


def since(before: Mapping[str, float], after: Mapping[str, float]) -> Use:
    """Return what came on between two times.

    Threads that ended meanwhile take their waiting with them: it is never less than nothing.

    Examples:
        >>> since({"ran": 1.0, "cores": 2.0}, {"ran": 1.5, "cores": 2.0})
        {'ran': 0.5, 'cores': 2.0}
    """
    return {
        name: value if name == "cores" else max(0.0, value - before[name])
        for name, value in after.items()
        if name in before
    }


def shortage(uses: Mapping[int, Mapping[str, float]], hosts: Mapping[int, str]) -> Shortage | None:
    """Return what the ranks lack on the host that is shortest of processors; None if none does.

    ``uses`` and ``hosts`` are by rank. A host's ranks are looked at together. Only where other
    processes have the cores are they lacking: a rank's own threads may wait for each other.

    Examples:
        >>> use = {"ran": 1.0, "waited": 9.0, "machine": 20.0, "wall": 10.0, "cores": 2.0}
        >>> lack = shortage({0: use, 1: use}, {0: "a", 1: "a"})
        >>> lack.share, lack.others, lack.ranks, lack.delay
        (0.1, 0.9, 2, 0.9)
        >>> shortage({0: {**use, "waited": 0.1}}, {0: "a"}) is None
        True
    """
    by_host: dict[str, list[Mapping[str, float]]] = {}
    for rank, use in uses.items():
        if "waited" in use and use.get("ran", 0.0) > 0:
            by_host.setdefault(hosts.get(rank, ""), []).append(use)
    found = [short for here in by_host.values() if (short := _on_host(here)) is not None]
    return min(found, key=lambda each: min(each.share, each.exchange), default=None)


def share(use: Mapping[str, float]) -> float:
    """Return what a rank got of the processor time that it could use; NaN where not known.

    Examples:
        >>> share({"ran": 1.0, "waited": 3.0}), share({"ran": 1.0})
        (0.25, nan)
    """
    asked = use.get("ran", 0.0) + use.get("waited", float("nan"))
    return use["ran"] / asked if asked > 0 else float("nan")


def _on_host(uses: list[Mapping[str, float]]) -> Shortage | None:
    def total(name: str) -> float:
        return sum(use.get(name, 0.0) for use in uses)

    machine = max((use["machine"] for use in uses if "machine" in use), default=0.0)
    others = max(0.0, 1 - total("ran") / machine) if machine > 0 else 0.0
    if others < STRANGERS:
        return None
    apart = all("exchange_ran" in use for use in uses)
    if all("step_ran" in use for use in uses):
        ran, waited = total("step_ran"), total("step_waited")
    else:
        ran = total("ran") - total("exchange_ran")
        waited = max(total("waited") - total("exchange_waited"), 0.0)
    own = _share(ran, waited)
    exchange = _share(total("exchange_ran"), total("exchange_waited")) if apart else own
    if own >= ENOUGH and exchange >= ENOUGH_TO_POLL:
        return None
    wall = total("wall")
    exchange_waited = total("exchange_waited" if apart else "waited")
    delay, exchange_delay = (
        each / wall if wall > 0 else math.inf for each in (waited, exchange_waited)
    )
    cores = max(use.get("cores", 0.0) for use in uses)
    seconds = max(use.get("wall", 0.0) for use in uses) if cores else 0.0
    return Shortage(
        *(own, others, int(cores), len(uses), exchange),
        delay=delay,
        exchange_delay=exchange_delay,
        theirs=_theirs(total("ran") / seconds, machine / seconds, cores) if seconds else 1.0,
    )


def _theirs(own: float, all_: float, cores: float) -> float:
    """Return what of the waiting for a core is for others' processes, by the cores in use.

    ``own`` are the cores that the ranks keep busy, on the mean, ``all_`` those that anything does, of
    ``cores``. Without the others' processes, ranks would wait for each other's threads as in a queue at
    as many cores that is as busy as they make it.

    Examples:
        >>> [round(_theirs(0.5, busy, 2.0), 2) for busy in (0.5, 1.0, 2.0)]
        [0.0, 0.76, 1.0]
    """
    now = _queue(all_, cores)
    return max(0.0, 1 - _queue(own, cores) / now) if now > 0 else 1.0


def _queue(busy: float, cores: float) -> float:
    """Return how long one waits for a core, in the time that it is then used.

    H. Sakasegawa, An approximation formula for the mean queue length of an M/M/c queue (1977).
    """
    load = min(busy / cores, _FULL)
    return float(load ** (math.sqrt(2 * (cores + 1)) - 1) / (cores * (1 - load)))


def _share(ran: float, waited: float) -> float:
    """Return what was got of the time that was asked for; 1 where next to none was."""
    asked = ran + waited
    return max(ran, 0.0) / asked if asked > _LITTLE_S else 1.0


def _of_threads() -> tuple[dict[int, float], dict[int, float], dict[int, str]]:
    """Return by thread of this process how long it ran, was ready to run and did not, in s, and its name."""
    ran, waited, names = {}, {}, {}
    for task in _TASKS.iterdir():
        with contextlib.suppress(OSError, IndexError):
            spent, queued, *_ = (task / "schedstat").read_text().split()
            names[int(task.name)] = (task / "comm").read_text().strip()
            ran[int(task.name)], waited[int(task.name)] = int(spent) * _NS, int(queued) * _NS
    if not waited:
        raise OSError("no thread has a schedstat")
    return ran, waited, names
