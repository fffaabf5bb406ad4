"""Synchronous parameter servers with a worker slowed at random: is each step the global batch's?

Two ranks train five steps on servers, `--runs` times, each time with one of the two workers taking
its tasks up to 0.1 s late. The weights must be those of one process with both ranks' rows.

    python benchmarks/slowed_servers.py --runs 100
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

import _harness as harness

from eai_notebook.cluster.mpi_environment import find_mpirun, rank_environment

PROGRAM: Final = Path(__file__).resolve().parent.parent / "tests" / "ranks" / "slow_worker.py"
CLOSE: Final = 1e-5


def differences(runs: int) -> list[list[float]]:
    """Return each rank's largest differences from the global batch's weights, one a run."""
    with tempfile.TemporaryDirectory() as folder:
        start = [find_mpirun(), "-n", "2", "--oversubscribe", "--bind-to", "none"]
        subprocess.run(
            [*start, sys.executable, str(PROGRAM)],
            env={
                **os.environ,
                **rank_environment(2),
                "TF_CPP_MIN_LOG_LEVEL": "3",
                "EAI_TEST_RESULTS": folder,
                "EAI_TEST_RUNS": str(runs),
            },
            cwd=folder,
            check=True,
        )
        reports = [json.loads((Path(folder) / f"{rank}.json").read_text()) for rank in range(2)]
    return [report["differences"] for report in reports]


def main() -> None:
    """Run it and print how many runs were equal to the global batch."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=100)
    given = parser.parse_args()
    found = differences(given.runs)
    worst = [max(each) for each in zip(*found, strict=True)]
    summary = {
        "runs": len(worst),
        "equal_to_global_batch": sum(each < CLOSE for each in worst),
        "max_abs_diff": max(worst),
    }
    harness.finish("slowed_servers", summary, {"differences": found})


if __name__ == "__main__":
    main()
