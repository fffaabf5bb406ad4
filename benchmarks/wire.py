"""fp32, fp16, int8 and int4 on links of 200 Mbit/s: time, bytes, and what becomes of the model.

Time: 16 gradients of 1 MB exchanged by themselves, and whole steps of a network with as many
weights, on two hosts, formats in turns; fp32 twice, as a control. All by the allreduce that
`%eai up --hosts` chooses. Look at fp32's seconds before its ratios: where it gets half the link,
the others seem quicker than they are. Bytes: read off the links and set against theory, which is
what the ledger counts.

AUC: Wide & Deep on planted click logs, 20 seeds, each trained in every format from the same
weights on the same rows, on two ranks. Two one-sided tests (Schuirmann 1987) say whether
fp16's, int8's and int4's AUC are those of fp32 within 0.0005, at 5 %. Seeds add to the day's file.

    python benchmarks/wire.py              # both; as root: it makes test hosts
    python benchmarks/wire.py --auc skip
    python benchmarks/wire.py --auc only --seeds 0 1 2 3 4
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
from scipy import stats

RANKS = 2
RATE_MBIT = 200.0
BOUND = 0.0005
SEEDS = 20
HERE = Path(__file__)


def ratio(part: dict[str, Any], name: str) -> tuple[float, Any]:
    """Return fp32's seconds over those of `name`, the median round by round, and its interval."""
    each = np.array(part["seconds"]["fp32"]) / np.array(part["seconds"][name])
    return float(np.median(each)), harness.bootstrap_interval(each)


def over_theory(part: dict[str, Any]) -> dict[str, float]:
    """Return the bytes on the link over those that the ledger counts, by format."""
    return {
        name: float(np.median(np.array(sent) / np.array(part["counted"][name])))
        for name, sent in part["bytes"].items()
    }


def of_time(found: dict[str, Any]) -> dict[str, Any]:
    """Return the figures of times and bytes."""
    theory = over_theory(found["exchange"])
    summary: dict[str, Any] = {}
    for name in ("fp16", "int8", "int4"):
        summary[f"{name}_ratio"], summary[f"{name}_interval"] = ratio(found["exchange"], name)
        summary[f"{name}_step_ratio"], summary[f"{name}_step_interval"] = ratio(found["step"], name)
    step = found["step"]
    faster = np.array(step["seconds"]["int8"]) / np.array(step["seconds"]["int4"])
    summary["int4_step_over_int8"] = float(np.median(faster))
    summary["int4_step_over_int8_interval"] = harness.bootstrap_interval(faster)
    summary["control_ratio"], summary["control_interval"] = ratio(found["exchange"], "fp32 again")
    summary["bytes_over_theory"] = theory
    summary["bytes_within_5_pct"] = all(abs(each - 1) <= 0.05 for each in theory.values())
    summary["fp16_rel_error"] = found["survives"]
    return summary


def of_auc(seeds: list[dict[str, float]]) -> dict[str, Any]:
    """Return the two one-sided tests of each format against fp32."""
    summary: dict[str, Any] = {
        f"auc_{name}": float(np.mean([each[name] for each in seeds])) for name in ("fp32", "best")
    }
    summary["auc_seeds"] = len(seeds)
    passed = len(seeds) == SEEDS
    if len(seeds) < 2:
        return summary
    for name in ("fp16", "int8", "int4"):
        apart = np.array([each[name] - each["fp32"] for each in seeds])
        error = float(apart.std(ddof=1) / np.sqrt(len(apart)))
        reach = float(stats.t.ppf(0.95, len(apart) - 1)) * error
        low, high = apart.mean() - reach, apart.mean() + reach
        summary[f"auc_{name}_minus_fp32_90_pct"] = [float(low), float(high)]
        passed = passed and low > -BOUND and high < BOUND
    summary["auc_equivalent"] = bool(passed)
    return summary


def rounded(value: Any) -> Any:
    """Return `value` with its floats to four digits."""
    if isinstance(value, dict):
        return {name: rounded(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(each) for each in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def main() -> None:
    """Measure, test, and say whether the targets are met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--auc", choices=("both", "only", "skip"), default="both")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--seeds", type=int, nargs="*", default=list(range(SEEDS)))
    parser.add_argument("--rows", type=int, default=100_000, help="of each rank")
    parser.add_argument("--timeout", type=float, default=1200)
    arguments = parser.parse_args()
    asked = {"count": 16, "length": 1 << 18, "units": 1024, "layers": 4, "batch": 32}
    asked |= {"rounds": arguments.rounds}
    asked_auc = {"rows": arguments.rows, "test_rows": 100_000, "batch": 250, "buckets": 2000}
    details = harness.earlier("wire")
    if arguments.auc != "only":
        with Hosts(RANKS, rate_mbit=RATE_MBIT) as hosts, hosts.crossing(at_least=100e6):
            _, choice, ring = _on_hosts.choose_ring(hosts)
            details["time"] = _on_hosts.run(
                hosts,
                HERE.with_name("_wire_rank.py"),
                asked,
                arguments.timeout,
                ring=ring,
                environment=choice.environment(),
            )
            details["chosen"] = choice.lines()
        details["asked"] = asked
    if arguments.auc != "skip":
        if details.get("asked_auc") != asked_auc:  # of another kind, or none
            details |= {"asked_auc": asked_auc, "auc": {}}
        with Hosts(RANKS) as hosts, hosts.crossing(at_least=1e6):
            details["auc"] |= _on_hosts.run(
                hosts,
                HERE.with_name("_auc_rank.py"),
                {**asked_auc, "seeds": arguments.seeds},
                arguments.timeout,
            )
    summary = of_time(details["time"]) if "time" in details else {}
    if details.get("auc"):
        summary |= of_auc(list(details["auc"].values()))
        summary["auc_steps"] = details["asked_auc"]["rows"] // details["asked_auc"]["batch"]
    harness.finish("wire", rounded(summary), details)
    met = (
        summary.get("fp16_ratio", 0) >= 1.9
        and summary.get("int8_ratio", 0) >= 3.5
        and summary.get("int4_ratio", 0) >= 5.0
        and summary.get("auc_equivalent", False)
        and summary.get("bytes_within_5_pct", False)
    )
    sys.exit(0 if met else 1)


if __name__ == "__main__":
    main()
