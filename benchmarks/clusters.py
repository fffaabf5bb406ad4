"""A group as a job of a real Slurm: how fast does it start, does it train the same, what do faults leave?

Slurm is made on this machine, with three nodes in network namespaces (`tests/clusters`; needs root and
Debian's packages). Three starts take turns: a local group, the job's own ``mpirun`` submitted by plain
``sbatch`` with ranks that import the same program and end, and `%eai up --slurm`. The ratio is what the last
takes beyond the local start, in units of the second. Training is compared with one process, as in
`equivalence.py`. The faults are those of `tests/clusters/test_faults_on_slurm.py`, each run as there; a test
that does not end in `--timeout` seconds is a hang.

    python benchmarks/clusters.py
    python benchmarks/clusters.py --rounds 1 --skip-faults
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import _harness as harness
import equivalence

# In this folder's place, where this file would be taken for the folder of tests.
sys.path.pop(0)
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from clusters.leftovers_of_jobs import left_on_nodes
from clusters.slurm_cluster import SlurmCluster

from eai_notebook.cluster.launcher_registry import make_launcher
from eai_notebook.cluster.launchers.slurm import SlurmLauncher
from eai_notebook.cluster.mpi_environment import find_mpirun
from eai_notebook.session import Session, Watcher

REPOSITORY = Path(__file__).resolve().parent.parent
IN_A_JOB: dict[str, Any] = {"slurm": True, "nodes": 2, "time": "10"}
CASES = [("dense", "sgd"), ("dense", "adam"), ("embedding", "sgd")]
FAULTS = REPOSITORY / "tests" / "clusters" / "test_faults_on_slurm.py"


class Quiet(Watcher):
    """Shows nothing."""

    def text(self, stream: str, text: str) -> None:
        """Drop it."""


def start_seconds(**where: Any) -> float:
    """Return how long a group of two takes to be up, in seconds."""
    session = Session(2, watcher=Quiet(), **where)
    begin = time.perf_counter()
    session.up()
    taken = time.perf_counter() - begin
    session.down()
    return taken


def sbatch_seconds(slurm: SlurmCluster) -> float:
    """Return how long plain ``sbatch`` takes for two ranks that import an engine's program and end."""
    import_it = [sys.executable, "-c", "import eai_notebook.cluster.engine_process"]
    mpirun = [find_mpirun(), "-n", "2", "--bind-to", "none", "--map-by", "slot:OVERSUBSCRIBE"]
    network = ["--prtemca", "prte_if_include", slurm.hosts.subnet]
    words = " ".join(f"'{word}'" for word in [*mpirun, *network, *import_it])
    root = "export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1\n"
    root += "export PRTE_ALLOW_RUN_AS_ROOT=1 PRTE_ALLOW_RUN_AS_ROOT_CONFIRM=1\n"
    with tempfile.TemporaryDirectory(dir=slurm.hosts.folder) as folder:
        script, log = Path(folder) / "job.sh", Path(folder) / "job.log"
        script.write_text(
            f"#!/bin/bash\n#SBATCH -N2 -n2 -t 10 -o {log}\n{root}{words} && echo done\n"
        )
        begin = time.perf_counter()
        slurm.slurm("sbatch", str(script))
        while not log.exists() or "done" not in log.read_text():
            assert time.perf_counter() - begin < 120, log.read_text() if log.exists() else "no job"
            time.sleep(0.02)
        return time.perf_counter() - begin


def training_difference() -> float:
    """Return the largest relative difference of weights trained in a job and in one process."""
    reference, _ = equivalence.in_one_process(CASES, equivalence.STEPS)
    ranks = equivalence.in_group(2, CASES, equivalence.STEPS, **IN_A_JOB)
    return max(
        equivalence.difference(weights[name], reference[name])
        for weights in ranks.values()
        for name in reference
        if name.startswith("float64")
    )


def run_faults(timeout: float) -> dict[str, Any]:
    """Run every fault; return the seconds of each by name, and which failed or hung."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "faults.xml"
        words = ["-m", "pytest", "-q", str(FAULTS), f"--junitxml={file}", f"--timeout={timeout}"]
        subprocess.run([sys.executable, *words], cwd=REPOSITORY, stdout=sys.stderr, check=False)
        cases = list(ET.parse(file).getroot().iter("testcase"))  # noqa: S314  our own file
    wrong = {
        str(case.get("name")): str(bad.get("message"))
        for case in cases
        for bad in [*case.iter("failure"), *case.iter("error")]
    }
    return {
        "seconds": {str(case.get("name")): float(case.get("time", 0)) for case in cases},
        "wrong": wrong,
        "hangs": [name for name, words in wrong.items() if "Timeout" in words],
    }


def main() -> None:
    """Measure starts, train, inject the faults."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--timeout", type=float, default=240.0)
    parser.add_argument("--skip-faults", action="store_true")
    asked = parser.parse_args()
    starts: dict[str, list[float]] = {"local": [], "sbatch": [], "slurm": []}
    with SlurmCluster(3, cores=4) as slurm:
        os.environ.update(slurm.environment())
        for number in range(1, asked.rounds + 1):
            slurm.wait_until_idle()
            starts["local"].append(start_seconds())
            starts["sbatch"].append(sbatch_seconds(slurm))
            slurm.wait_until_idle()
            starts["slurm"].append(start_seconds(**IN_A_JOB))
            last = {name: round(taken[-1], 2) for name, taken in starts.items()}
            harness.say(f"{number}/{asked.rounds} {last} s")
        difference = training_difference()
        left = [*slurm.jobs(), *left_on_nodes(slurm)]
        launcher = make_launcher(2, IN_A_JOB)
        assert isinstance(launcher, SlurmLauncher)
        script = launcher.describe()
    faults: dict[str, Any] = {"seconds": {}, "wrong": {}, "hangs": []}
    if not asked.skip_faults:
        faults = run_faults(asked.timeout)
    ratios = [
        (slurm_s - local_s) / sbatch_s
        for slurm_s, local_s, sbatch_s in zip(
            starts["slurm"], starts["local"], starts["sbatch"], strict=True
        )
    ]
    harness.finish(
        "clusters",
        {
            "slurm_start_ratio": round(statistics.median(ratios), 3),
            "faults": len(faults["seconds"]),
            "faults_wrong": len(faults["wrong"]),
            "left_behind": len(left),
            "hangs": len(faults["hangs"]),
            "max_rel_diff": difference,
        },
        {"starts": starts, "ratios": ratios, "faults": faults, "left": left, "script": script},
    )


if __name__ == "__main__":
    main()
