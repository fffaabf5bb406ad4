"""What does the patch of Horovod's background loop save?

`install-horovod` builds Horovod with `eai_notebook/horovod_build/headers/`: idle ranks sleep, new
tensors start a cycle at once, and waiting ranks sleep between polls. Every round runs one job without
the patch (EAI_HOROVOD_REST_MS=0) and two with it, the second as control. In each, all ranks measure on
this machine:

- the processor time of a group with nothing to do, all ranks together, in cores;
- an exchange of a few bytes, the last of a chain in which each needs the one before.

    python benchmarks/ring_loop.py
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from typing import Any

import _harness as harness
import numpy as np

from eai_notebook.cluster.mpi_environment import rank_environment
from eai_notebook.horovod_build import mpi_finder

JOBS = {"stock": "0", "mended": None, "mended again": None}
MARK = "eai-result:"
IDLE_S = 3.0
CHAIN, CHAINS = 8, 200


def rank() -> None:
    """Measure one job, in each of its ranks; rank 0 prints what was found."""
    from eai_notebook import collective

    collective.form()
    import tensorflow as tf

    collective.barrier()
    before, begin = _processor_s(), time.perf_counter()
    time.sleep(IDLE_S)
    idle = (_processor_s() - before) / (time.perf_counter() - begin)

    @tf.function(autograph=False)
    def chained(value: tf.Tensor) -> tf.Tensor:
        for link in range(CHAIN):
            value = collective.allreduce(value, f"link.{link}")
        return value

    value = tf.ones([16])
    chained(value)
    seconds = []
    for _ in range(CHAINS):
        begin = time.perf_counter()
        chained(value)
        seconds.append((time.perf_counter() - begin) / CHAIN)
    cores = float(collective.gather_numpy(np.array([idle])).sum())
    if collective.rank() == 0:
        found = {"idle_cores": cores, "exchange_ms": 1e3 * float(np.median(seconds))}
        sys.stdout.write(f"\n{MARK}{json.dumps(found)}\n")


def _processor_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def run(ranks: int, rest_ms: str | None) -> dict[str, float]:
    """Run one job and return what it measured."""
    found_mpi = mpi_finder.find()
    command = [*found_mpi.launch(ranks), sys.executable, __file__, "--rank"]
    environment = found_mpi.environment() | rank_environment(ranks)
    environment.pop("EAI_HOROVOD_REST_MS", None)
    if rest_ms is not None:
        environment["EAI_HOROVOD_REST_MS"] = rest_ms
    done = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, text=True, timeout=300, check=True
    )
    found: dict[str, float] = json.loads(done.stdout.partition(MARK)[2])
    return found


def summarize(rounds: list[dict[str, dict[str, float]]], measure: str) -> dict[str, Any]:
    """Return the medians of one measure, how many times less it is here, and the control."""
    values = {job: np.array([each[job][measure] for each in rounds]) for job in JOBS}
    ratio, control = values["stock"] / values["mended"], values["mended again"] / values["mended"]
    return {
        **{job: round(float(np.median(each)), 4) for job, each in values.items()},
        "ratio": round(float(np.median(ratio)), 3),
        "interval": harness.bootstrap_interval(ratio),
        "control_interval": harness.bootstrap_interval(control),
    }


def main() -> None:
    """Run all jobs in turns and report the effect of the patch."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ranks", type=int, nargs="*", default=[2, 4])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--rank", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.rank:
        rank()
        return
    details: dict[str, Any] = {}
    for ranks in asked.ranks:
        rounds = []
        for number in range(asked.rounds):
            order = list(JOBS.items())[:: 1 if number % 2 else -1]
            rounds.append({job: run(ranks, rest_ms) for job, rest_ms in order})
            harness.say(f"{ranks} ranks: {rounds[-1]}")
        kinds = ("idle_cores", "exchange_ms")
        details[str(ranks)] = {
            **{kind: summarize(rounds, kind) for kind in kinds},
            "raw": rounds,
        }
    most = details[str(max(asked.ranks))]
    summary = {
        "ranks": max(asked.ranks),
        "idle_cores": most["idle_cores"]["mended"],
        "idle_cores_stock": most["idle_cores"]["stock"],
        "exchange_ratio": most["exchange_ms"]["ratio"],
        "exchange_interval": most["exchange_ms"]["interval"],
        "same_twice": most["exchange_ms"]["control_interval"],
    }
    harness.finish("ring_loop", summary, {"by_ranks": details})


if __name__ == "__main__":
    main()
