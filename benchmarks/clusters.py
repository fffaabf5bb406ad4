"""A group in a real Slurm and Kubernetes: how fast does it start, does it train the same, what do faults leave?

Both are made on this machine (`tests/clusters`; needs root, Debian's packages and what `tools/kubernetes`
builds). Three starts take turns on each: a local group, a plain job of two ranks that import the same program
and end (by ``sbatch`` with ``mpirun``, or as two pods of a job), and `%eai up --slurm` or `--kube`. The ratio is
what the last takes beyond the local start, in units of the second. Training is compared with one process, as in
`equivalence.py`; notebooks as jobs are compared with the same notebooks run here. The faults are those of `tests/clusters/test_faults_on_*.py`, each run as there; a test that
does not end in `--timeout` seconds is a hang.

    python benchmarks/clusters.py
    python benchmarks/clusters.py --rounds 1 --skip-faults --on kube

What was measured on the same day and is not measured now stays in the result.
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
import _notebooks
import equivalence

# In this folder's place, where this file would be taken for the folder of tests.
sys.path.pop(0)
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from clusters.kube_cluster import KubeCluster, pod_template
from clusters.leftovers_of_jobs import left_on_nodes
from clusters.leftovers_of_pods import left_in_cluster
from clusters.slurm_cluster import SlurmCluster

from eai_notebook.cluster.launcher_registry import make_launcher
from eai_notebook.cluster.mpi_environment import find_mpirun
from eai_notebook.session import Session, Watcher

REPOSITORY = Path(__file__).resolve().parent.parent
IN_A_JOB: dict[str, Any] = {"slurm": True, "nodes": 2, "time": "10"}
CASES = [("dense", "sgd"), ("dense", "adam"), ("embedding", "sgd")]
FAULTS = REPOSITORY / "tests" / "clusters"
ENGINE = "import eai_notebook.cluster.engine_process"


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
    import_it = [sys.executable, "-c", ENGINE]
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


def plain_job_seconds(kube: KubeCluster) -> float:
    """Return how long a job of two pods takes that import an engine's program and end."""
    spec = pod_template(container={"command": [sys.executable, "-c", ENGINE]})["spec"]
    job = {
        "metadata": {"name": "plain"},
        "spec": {
            "completions": 2,
            "parallelism": 2,
            "template": {"spec": {**spec, "restartPolicy": "Never"}},
        },
    }
    path = "/apis/batch/v1/namespaces/ranks/jobs"
    begin = time.perf_counter()
    kube.api("POST", path, job)
    while kube.api("GET", f"{path}/plain")["status"].get("succeeded", 0) < 2:
        assert time.perf_counter() - begin < 120, "the plain job does not end"
        time.sleep(0.05)
    taken = time.perf_counter() - begin
    kube.delete_job("plain")
    left_in_cluster(kube)
    return taken


def training_difference(**where: Any) -> float:
    """Return the largest relative difference of weights trained in a job and in one process."""
    reference, _ = equivalence.in_one_process(CASES, equivalence.STEPS)
    ranks = equivalence.in_group(2, CASES, equivalence.STEPS, **where)
    return max(
        equivalence.difference(weights[name], reference[name])
        for weights in ranks.values()
        for name in reference
        if name.startswith("float64")
    )


def notebooks_as_jobs(folder: Path, options: dict[str, Any]) -> dict[str, Any]:
    """Return, by notebook, its losses as a job and how far they are from those of a run here.

    The nodes share `folder`.
    """
    found: dict[str, Any] = {}
    os.environ.update(_notebooks.settings(folder))
    for name in _notebooks.NAMES:
        here = _notebooks.losses(name, folder / f"{name}-here", None)
        job = _notebooks.losses(name, folder / f"{name}-job", options)
        apart = _notebooks.largest_difference(here, job)
        found[name] = {"losses": job, "difference": apart}
        harness.say(f"{name}: {len(job)} losses, {apart:.1e} apart")
    return found


def on_slurm(rounds: int, *, skip_notebooks: bool) -> dict[str, Any]:
    """Return what was measured on Slurm."""
    starts: dict[str, list[float]] = {"local": [], "plain": [], "group": []}
    with SlurmCluster(3, cores=4) as slurm:
        os.environ.update(slurm.environment())
        for number in range(1, rounds + 1):
            slurm.wait_until_idle()
            starts["local"].append(start_seconds())
            starts["plain"].append(sbatch_seconds(slurm))
            slurm.wait_until_idle()
            starts["group"].append(start_seconds(**IN_A_JOB))
            _say_round("slurm", number, rounds, starts)
        difference = training_difference(**IN_A_JOB)
        folder = Path(tempfile.mkdtemp(dir=slurm.hosts.folder))
        notebooks = {} if skip_notebooks else notebooks_as_jobs(folder, IN_A_JOB)
        left = [*slurm.jobs(), *left_on_nodes(slurm)]
        script = make_launcher(2, IN_A_JOB).describe()
    return {
        "starts": starts,
        "difference": difference,
        "notebooks": notebooks,
        "left": left,
        "script": script,
    }


def on_kube(rounds: int, *, skip_notebooks: bool) -> dict[str, Any]:
    """Return what was measured on Kubernetes."""
    starts: dict[str, list[float]] = {"local": [], "plain": [], "group": []}
    with KubeCluster(2) as kube:
        os.environ["KUBECONFIG"] = str(kube.kubeconfig)
        where = {"kube": str(kube.pod_file())}
        for number in range(1, rounds + 1):
            starts["local"].append(start_seconds())
            starts["plain"].append(plain_job_seconds(kube))
            starts["group"].append(start_seconds(**where))
            left_in_cluster(kube)
            _say_round("kube", number, rounds, starts)
        difference = training_difference(**where)
        left = left_in_cluster(kube)
        script = make_launcher(2, where).describe()
        folder = Path(tempfile.mkdtemp(dir=kube.folder))
        options = {"kube": str(kube.job_pod_file(folder))}
        notebooks = {} if skip_notebooks else notebooks_as_jobs(folder, options)
        for job in kube.jobs():  # the objects of those that have ended
            kube.delete_job(job)
        left += left_in_cluster(kube)
    return {
        "starts": starts,
        "difference": difference,
        "notebooks": notebooks,
        "left": left,
        "script": script,
    }


def _say_round(name: str, number: int, rounds: int, starts: dict[str, list[float]]) -> None:
    last = {kind: round(taken[-1], 2) for kind, taken in starts.items()}
    harness.say(f"{name} {number}/{rounds} {last} s")


def start_ratio(starts: dict[str, list[float]]) -> float:
    """Return what a group takes beyond a local one, in units of the plain job."""
    every = zip(starts["group"], starts["local"], starts["plain"], strict=True)
    return round(statistics.median((group - local) / plain for group, local, plain in every), 3)


def run_faults(name: str, timeout: float) -> dict[str, Any]:
    """Run every fault; return the seconds of each by name, and which failed or hung."""
    faults = FAULTS / f"test_faults_on_{name}.py"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "faults.xml"
        words = ["-m", "pytest", "-q", str(faults), f"--junitxml={file}", f"--timeout={timeout}"]
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


def _notebook_difference(measured: dict[str, dict[str, Any]]) -> dict[str, float]:
    found = [
        each["difference"]
        for where in measured.values()
        for each in where.get("notebooks", {}).values()
    ]
    return {"notebooks_max_rel_diff": max(found)} if found else {}


def main() -> None:
    """Measure starts, train, inject the faults."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--timeout", type=float, default=240.0)
    parser.add_argument("--skip-faults", action="store_true")
    parser.add_argument("--skip-notebooks", action="store_true")
    parser.add_argument("--only-faults", action="store_true", help="keep the day's other figures")
    parser.add_argument("--on", choices=("slurm", "kube"), nargs="+", default=["slurm", "kube"])
    asked = parser.parse_args()
    measured: dict[str, dict[str, Any]] = harness.earlier("clusters")
    for name in asked.on:
        before = measured.get(name, {})
        if not asked.only_faults:
            measure = {"slurm": on_slurm, "kube": on_kube}[name]
            measured[name] = measure(asked.rounds, skip_notebooks=asked.skip_notebooks)
        measured[name]["faults"] = before.get("faults", {"seconds": {}, "wrong": {}, "hangs": []})
        if not asked.skip_faults:
            measured[name]["faults"] = run_faults(name, asked.timeout)
    faults = [found["faults"] for found in measured.values()]
    harness.finish(
        "clusters",
        {
            **{
                f"{name}_start_ratio": start_ratio(found["starts"])
                for name, found in measured.items()
            },
            "faults": sum(len(each["seconds"]) for each in faults),
            "faults_wrong": sum(len(each["wrong"]) for each in faults),
            "left_behind": sum(len(found["left"]) for found in measured.values()),
            "hangs": sum(len(each["hangs"]) for each in faults),
            "max_rel_diff": max(found["difference"] for found in measured.values()),
            **_notebook_difference(measured),
        },
        measured,
    )


if __name__ == "__main__":
    main()
