"""How much of the link do gradients use, compared with Open MPI's own choice of algorithm?

Hosts are network namespaces with links of a set rate (see `tests/hosts`; needs root). For
each number of hosts and each rate the ring is chosen as `%eai up --hosts` does. Then the
chosen ring and a stock Open MPI take turns, each in an `mpirun` of its own with the same
placement, and sum each size. Before and after, the same processes send plain TCP around the
ring, both ways at once: that goodput is the limit. Bus bandwidth is NCCL's: size / time x
2(N-1)/N. The control is stock Open MPI against itself, even turns against odd ones.

`step_link_share` is Keras's whole training step, in a group on the hosts, of a model with
16 gradients of 1 MB and next to nothing to compute, as a share of the same limit.

The hosts share this machine's cores, so both sides sleep when they wait
(`_on_hosts.SHARED_CORES`). A link carries its bucket of 8 ms at once when it was idle before,
so that short exchanges may show more than the limit.

    python benchmarks/allreduce.py --hosts 4 --rates 500 --step
    python benchmarks/allreduce.py --hosts 2 3 --rates 200 500   # adds to the day's file
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import _allreduce_rank as rank_side
import _harness as harness
import _layers
import _on_hosts  # where the tests' hosts are found
import numpy as np
from hosts.cluster import Hosts

from eai_notebook.cluster.allreduce_tuning.mpirun_job import run_module
from eai_notebook.session import Session, Watcher

HERE = Path(__file__).resolve().parent

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eai_notebook.cluster.preflight import Placement

KB, MB = 1 << 10, 1 << 20
TRIES = {64 * KB: 6, 256 * KB: 5, MB: 4, 4 * MB: 3, 16 * MB: 2, 64 * MB: 1}
"""How often each size is summed a turn."""
TARGETS = {"link_share": 0.95, "vs_default": 1.7, "step_link_share": 0.90}

WIDTH = 512
STEP = """
from mpi4py import MPI
from eai_notebook.cluster.allreduce_tuning.link_bandwidth import ring_goodput
from eai_notebook.collective.network_address import own_address
steps = iter(data)
model.train_on_batch(*batch)
step = model.make_train_function()
for _ in range(3):
    step(steps)

def measure(blocks, each, size):
    rates, shares = [], []
    for _ in range(blocks):
        MPI.COMM_WORLD.Barrier()
        link = ring_goodput(MPI.COMM_WORLD, own_address(NETWORKS), 0.6)
        for _ in range(each):
            begin = time.perf_counter()
            step(steps)
            seconds = time.perf_counter() - begin
            shares.append(size / seconds * 2 * (eai.size() - 1) / eai.size() / link)
        rates.append(link)
    return {"link": rates, "shares": shares}
"""


def measure_cell(count: int, rate: float, turns: int) -> dict[str, Any]:
    """Return the figures of one number of hosts and one rate, by size."""
    with Hosts(count, rate_mbit=rate) as hosts:
        hosts.favour()
        placement, choice, ring = _on_hosts.choose_ring(hosts)
        raw: dict[str, list[dict[str, Any]]] = {"ours": [], "stock": []}
        for turn in range(turns):
            for name in ("ours", "stock") if turn % 2 else ("stock", "ours"):
                with hosts.crossing(at_least=sum(TRIES)):
                    raw[name].append(run_ranks(placement, ring if name == "ours" else {}))
    cell = {str(size): figures(size, raw, count) for size in TRIES}
    goodput = np.median([turn["link"] for name in raw for turn in raw[name]])
    return {"goodput_mb_s": goodput / 1e6, "chosen": choice.lines(), "sizes": cell}


def run_ranks(placement: Placement, ring: Mapping[str, str]) -> dict[str, Any]:
    """Have the ranks sum every size; return the seconds and the link's bytes/s."""
    asked = {"networks": placement.networks, "sizes": list(TRIES), "tries": list(TRIES.values())}
    return run_module(
        placement,
        ring,
        (rank_side.__name__, json.dumps(asked)),
        mark=rank_side.MARK,
        what="summing on the hosts",
    )


def figures(size: int, raw: Mapping[str, list[dict[str, Any]]], ranks: int) -> dict[str, Any]:
    """Return one size's bus bandwidths, shares and ratios with their intervals."""

    def times(name: str, turns: slice = slice(None)) -> list[float]:
        return [t for turn in raw[name][turns] for t in turn["seconds"][str(size)]]

    def shares(name: str) -> list[float]:
        factor = size * 2 * (ranks - 1) / ranks
        return [
            factor / seconds / float(np.mean(turn["link"]))
            for turn in raw[name]
            for seconds in turn["seconds"][str(size)]
        ]

    bus = {n: size / np.median(times(n)) * 2 * (ranks - 1) / ranks / 1e6 for n in raw}
    return {
        "bus_mb_s": {name: round(float(value), 2) for name, value in bus.items()},
        "link_share": with_interval(shares("ours")),
        "stock_link_share": with_interval(shares("stock")),
        "vs_stock": ratio(times("stock"), times("ours")),
        "control": ratio(times("stock", slice(0, None, 2)), times("stock", slice(1, None, 2))),
        "repeats": len(times("ours")),
    }


def with_interval(values: list[float]) -> dict[str, Any]:
    """Return the median and its 95 % interval."""
    low, high = harness.bootstrap_interval(values)
    return {"median": round(float(np.median(values)), 4), "ci95": [round(low, 4), round(high, 4)]}


def ratio(above: list[float], below: list[float]) -> dict[str, Any]:
    """Return the ratio of two medians, with its 95 % interval from independent draws."""
    rng = np.random.default_rng(0)
    tops = [np.median(rng.choice(above, len(above))) for _ in range(2000)]
    bottoms = [np.median(rng.choice(below, len(below))) for _ in range(2000)]
    low, high = np.quantile(np.divide(tops, bottoms), (0.025, 0.975))
    middle = float(np.median(above) / np.median(below))
    return {"ratio": round(middle, 3), "ci95": [round(float(low), 3), round(float(high), 3)]}


def measure_step(count: int, rate: float, blocks: int) -> dict[str, Any]:
    """Return the training step's share of the link, in a group started as a user would."""
    with Hosts(count, rate_mbit=rate) as hosts:
        hosts.favour()
        os.environ.update(hosts.environment())
        with Session(hosts=",".join(hosts.names), watcher=Watcher()) as session:
            session.run(f"NETWORKS = [{hosts.subnet!r}]\n{_layers.source(WIDTH)}{STEP}")
            size = _layers.gradient_bytes(WIDTH)
            with hosts.crossing(at_least=4 * blocks * size):
                session.run(f"found = measure({blocks}, 4, {size})")
            found = session.pull("found")
            lines = session.launcher.status()
            assert lines
    return {**with_interval(found["shares"]), "repeats": len(found["shares"]), "chosen": lines}


def summarize(details: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures that the targets are about: four hosts at 500 Mbit/s."""
    cell = details.get("cells", {}).get("4 hosts, 500 Mbit/s")
    summary: dict[str, Any] = {"link_share": None, "vs_default": None}
    if cell is not None:
        large = [each for size, each in cell["sizes"].items() if int(size) >= 4 * MB]
        summary["link_share"] = min(each["link_share"]["median"] for each in large)
        summary["vs_default"] = cell["sizes"][str(16 * MB)]["vs_stock"]["ratio"]
    step = details.get("step")
    return {**summary, "step_link_share": step and step["median"]}


def main() -> None:
    """Measure the cells asked for, add them to the day's, print the summary."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hosts", type=int, nargs="*", default=[4])
    parser.add_argument("--rates", type=float, nargs="*", default=[500.0])
    parser.add_argument("--turns", type=int, default=6)
    parser.add_argument("--step", action="store_true", help="measure the training step, too")
    given = parser.parse_args()
    os.environ.update({**_on_hosts.SHARED_CORES, "PYTHONPATH": f"{HERE}:{HERE.parent}"})
    details = harness.earlier("allreduce")
    cells = details.setdefault("cells", {})
    for count in given.hosts:
        for rate in given.rates:
            name = f"{count} hosts, {rate:g} Mbit/s"
            harness.say(name)
            cells[name] = measure_cell(count, rate, given.turns)
    if given.step:
        details["step"] = measure_step(4, 500.0, 2 * given.turns)
    details["targets"] = TARGETS
    harness.finish("allreduce", summarize(details), details)


if __name__ == "__main__":
    main()
