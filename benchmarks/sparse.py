"""Embedding gradients of Wide & Deep on four hosts: our exchange against Horovod's allgather.

17 tables of 2 million ids, a weight (wide) and a vector (deep) for each id, 8192 rows a
batch on each host, links of 100 Mbit/s. The popularity of ids falls as their rank to the
power 1.5, as in the click logs of `eai_notebook.io`; other powers are in the result file.
Both exchanges train the same variables, in turns; bytes are read off the links. Horovod is
used as its documentation says: `hvd.allreduce` on each `tf.IndexedSlices`, all dense
gradients in one group. It is measured twice in each round: the ratio of the two is the noise.

`max_rel_diff` compares our fp32 average with the sum that one process makes of all batches.

    python benchmarks/sparse.py            # as root: it makes test hosts
"""

from __future__ import annotations

import argparse
import itertools
import sys
from pathlib import Path
from typing import Any

import _harness as harness
import _on_hosts
import numpy as np
from hosts.cluster import Hosts

RANKS = 4
TARGETS = {"throughput_ratio": 8.5, "bytes_ratio": 20.0, "max_rel_diff": 1e-6}


def ratio(part: dict[str, Any], of: str, over: str, what: str = "seconds") -> tuple[float, Any]:
    """Return the median of `over` / `of`, round by round, and its 95 % interval."""
    each = np.array(part[what][over]) / np.array(part[what][of])
    return float(np.median(each)), harness.bootstrap_interval(each)


def stops_paying(found: dict[str, Any], rate: float) -> float | None:
    """Return the rate in Mbit/s beyond which ours no longer wins, None if it always did.

    Between two measured rates the gain is taken as straight in the logarithm of the rate.
    """
    gains = {rate: ratio(found["main"], "fp16", "horovod")[0]}
    gains |= {
        float(other): ratio(part, "fp16", "horovod")[0]
        for other, part in found["other rates"].items()
        if other != "None"
    }
    rates = sorted(gains)
    for low, high in itertools.pairwise(rates):
        if gains[low] > 1 >= gains[high]:
            share = (gains[low] - 1) / (gains[low] - gains[high])
            return float(np.exp(np.log(low) + share * np.log(high / low)))
    return None


def summarize(found: dict[str, Any], asked: dict[str, Any]) -> dict[str, Any]:
    """Return the figures of the last line."""
    main = found["main"]
    summary: dict[str, Any] = {
        "throughput_ratio": ratio(main, "fp16", "horovod")[0],
        "throughput_interval": ratio(main, "fp16", "horovod")[1],
        "bytes_ratio": ratio(main, "fp16", "horovod", "bytes")[0],
        "max_rel_diff": found["max_rel_diff"],
        "control_ratio": ratio(main, "horovod again", "horovod")[0],
        "control_interval": ratio(main, "horovod again", "horovod")[1],
    }
    for wire in ("fp32", "int8"):
        summary[f"throughput_ratio_{wire}"] = ratio(main, wire, "horovod")[0]
        summary[f"bytes_ratio_{wire}"] = ratio(main, wire, "horovod", "bytes")[0]
    for zipf, part in found["other ids"].items():
        summary[f"throughput_ratio_zipf_{zipf}"] = ratio(part, "fp16", "horovod")[0]
        summary[f"bytes_ratio_zipf_{zipf}"] = ratio(part, "fp16", "horovod", "bytes")[0]
    for rate, part in found["other rates"].items():
        name = "unlimited" if rate == "None" else f"{rate}_mbit"
        summary[f"throughput_ratio_{name}"] = ratio(part, "fp16", "horovod")[0]
    summary["stops_paying_mbit"] = stops_paying(found, asked["rate"])
    summary["step_s"] = {n: float(np.median(t)) for n, t in main["seconds"].items()}
    return {
        name: float(f"{value:.4g}") if isinstance(value, float) else value
        for name, value in summary.items()
    }


def main() -> None:
    """Make the hosts, measure, and say whether the targets are met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--tables", type=int, default=17)
    parser.add_argument("--width", type=int, default=8)
    parser.add_argument("--batch", type=int, default=8192)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--few", type=int, default=4)
    parser.add_argument("--timeout", type=float, default=1200)
    arguments = parser.parse_args()
    timeout = arguments.timeout
    asked = {name: value for name, value in vars(arguments).items() if name != "timeout"}
    asked |= {"rate": 100.0, "zipf": 1.5, "other_zipf": [1.1, 1.3]}
    asked["other_rates"] = [500.0, 1000.0, 2000.0, None]
    with Hosts(RANKS, rate_mbit=asked["rate"]) as hosts, hosts.crossing(at_least=10e6):
        found = _on_hosts.run(hosts, Path(__file__).with_name("_sparse_rank.py"), asked, timeout)
    summary = summarize(found, asked)
    harness.finish("sparse", summary, {"asked": asked, "found": found})
    met = (
        summary["throughput_ratio"] >= TARGETS["throughput_ratio"]
        and summary["bytes_ratio"] >= TARGETS["bytes_ratio"]
        and summary["max_rel_diff"] <= TARGETS["max_rel_diff"]
    )
    sys.exit(0 if met else 1)


if __name__ == "__main__":
    main()
