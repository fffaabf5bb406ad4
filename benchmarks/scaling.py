"""Does Wide & Deep train four times as fast on four hosts? Stock Horovod's answer, and ours.

Each host has the same small share of one core, so that four of them, and the one alone, find
all they need on this machine, and links of a set rate. One step alone is Keras's own, without
any exchange and any ring, on the first host while the others sleep; of the two ways to apply
its embedding gradients, as they are or with repeated rows added up, the quicker counts. Each way
on four hosts takes turns with it, in the same processes:

- weak: every host has the batch that the one had; 100 % is a step as long as alone;
- strong: every host has a quarter of it; 100 % is a step a quarter as long as alone.

Stock Horovod is what its documentation says: `hvd.allreduce` on every gradient, fp32, which
is an allgather for embeddings' `tf.IndexedSlices`, Open MPI as it is, and Horovod's background
loop and its waiting as they came (EAI_HOROVOD_REST_MS=0). Ours is
`eai.DistributedOptimizer` with wire="int8" and, in the file, "fp16", in an `mpirun` of its own,
because there Open MPI gets the settings of `%eai up --hosts`. The optimizer is SGD: Keras's
Adagrad, Adam and Ftrl compute over whole tables, which no exchange makes less. The summary is of
the highest rate measured this day at which stock Horovod scales to 33 % or less (strong). The
control is the step alone against itself.

    python benchmarks/scaling.py                  # as root: it makes test hosts
    python benchmarks/scaling.py --rates 300      # adds to the day's file
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import _harness as harness
import _on_hosts
import numpy as np
from hosts.cluster import Hosts

RANKS = 4
TARGETS = {"weak_pct": 90.0, "strong_pct": 60.0, "stock_strong_pct": 33.0}
OURS = "int8"
STOCK = ("stock strong", "stock weak")
PLAN = ("int8 strong", "fp16 strong", "int8 weak", "fp16 weak")


def figures(part: dict[str, Any]) -> dict[str, Any]:
    """Return every way's percentage of perfect scaling in one job, with its interval."""
    seconds = {name: np.array(each) for name, each in part["seconds"].items()}
    quicker = min(("alone", "alone merged"), key=lambda name: float(np.median(seconds[name])))
    found: dict[str, Any] = {"alone_is": quicker}
    for name in (*STOCK, *PLAN):
        if name in seconds:
            perfect = seconds[quicker] / (RANKS if name.endswith("strong") else 1)
            found[name] = with_interval(100 * perfect / seconds[name])
    found["control"] = with_interval(seconds["alone"] / seconds["alone again"])
    found["step_s"] = {name: round(float(np.median(each)), 4) for name, each in seconds.items()}
    found["sent_mb"] = {n: round(float(np.median(b)) / 1e6, 3) for n, b in part["bytes"].items()}
    return found


def with_interval(values: np.ndarray) -> dict[str, Any]:
    """Return the median of the rounds' values and its 95 % interval."""
    low, high = harness.bootstrap_interval(values)
    return {"median": round(float(np.median(values)), 3), "ci95": [round(low, 3), round(high, 3)]}


def summarize(by_rate: dict[str, Any]) -> dict[str, Any]:
    """Return the summary, at the highest rate at which stock Horovod is at most at 33 %."""
    slow = [
        float(rate)
        for rate, found in by_rate.items()
        if found["stock"]["stock strong"]["median"] <= TARGETS["stock_strong_pct"]
    ]
    if not slow:
        return {"weak_pct": None, "strong_pct": None, "stock_strong_pct": None}
    stock, found = (by_rate[f"{max(slow):g}"][kind] for kind in ("stock", "ours"))
    weak, strong = (found.get(f"{OURS} {size}", {}) for size in ("weak", "strong"))
    return {
        "weak_pct": weak.get("median"),
        "strong_pct": strong.get("median"),
        "stock_strong_pct": stock["stock strong"]["median"],
        "weak_interval": weak.get("ci95"),
        "strong_interval": strong.get("ci95"),
        "stock_strong_interval": stock["stock strong"]["ci95"],
        "control_interval": found["control"]["ci95"],
        "stock_control_interval": stock["control"]["ci95"],
        "rate_mbit": max(slow),
    }


def measure(asked: dict[str, Any], stock: list[str], rate: float, timeout: float) -> dict[str, Any]:
    """Return the seconds and bytes of both jobs at one rate, Open MPI as it is and as chosen."""
    found = {}
    for kind, plan in {"stock": stock, "ours": asked["plan"]}.items():
        with Hosts(RANKS, rate_mbit=rate) as hosts, hosts.crossing(at_least=1e6):
            hosts.favour()
            ring, environment = None, {"EAI_HOROVOD_REST_MS": "0"}
            if kind == "ours":
                _, choice, ring = _on_hosts.choose_ring(hosts)
                environment = choice.environment()
            found[kind] = _on_hosts.run(
                hosts,
                Path(__file__).with_name("_scaling_rank.py"),
                {**asked, "plan": plan, "rate": rate},
                timeout,
                pinned=True,
                ring=ring,
                environment=environment,
            )
    return found


def main() -> None:
    """Make the hosts, measure, and say whether the targets are met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cores", type=float, default=0.4, help="of each host")
    parser.add_argument("--rates", type=float, nargs="*", default=[120.0], help="Mbit/s")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--steps", type=int, default=1, help="a turn")
    parser.add_argument("--batch", type=int, default=32768, help="rows, of the host alone")
    parser.add_argument("--buckets", type=int, default=100_000, help="of each of 26 columns")
    parser.add_argument("--hidden", type=int, nargs="*", default=[1024, 512, 256])
    parser.add_argument("--zipf", type=float, default=1.5)
    parser.add_argument("--plan", nargs="*", default=list(PLAN))
    parser.add_argument("--stock", nargs="*", default=list(STOCK), choices=STOCK)
    parser.add_argument("--timeout", type=float, default=2400)
    asked = vars(parser.parse_args())
    timeout, stock = asked.pop("timeout"), asked.pop("stock")
    rates = asked.pop("rates")
    earlier = harness.earlier("scaling")
    raw = earlier["raw"] if earlier.get("asked") == asked else {}
    for rate in rates:
        raw[f"{rate:g}"] = measure(asked, stock, rate, timeout)
    by_rate = {
        rate: {kind: figures(part) for kind, part in jobs.items()} for rate, jobs in raw.items()
    }
    summary = summarize(by_rate)
    details = {"asked": asked, "targets": TARGETS, "by_rate": by_rate, "raw": raw}
    harness.finish("scaling", summary, details)
    met = summary["weak_pct"] is not None and (
        summary["weak_pct"] >= TARGETS["weak_pct"]
        and summary["strong_pct"] >= TARGETS["strong_pct"]
    )
    sys.exit(0 if met else 1)


if __name__ == "__main__":
    main()
