"""A group in a real Slurm and Kubernetes: how fast does it start, does it train the same, what do faults leave?

Both are made on this machine (`tests/clusters`; needs root, Debian's packages and what `tools/kubernetes`
builds). The parts:

- ``starts``: three take turns: a local group, a plain job of two ranks that import the same program and end (by
  ``sbatch`` with ``mpirun``, or as two pods of a job), and `%eai up --slurm` or `--kube`. The ratio is what the last takes
  beyond the local start, in units of the second.
- ``training``: compared with one process, as in `equivalence.py`.
- ``notebooks``: as jobs, compared with the same notebooks run here.
- ``killed``: a notebook's job that is killed in the middle of its training and starts again, compared with one that is not.
- ``walk``: what a group is for, in turn and timed: start, cell, error, Stop, training, restart, down; by ring and by parameter
  servers, also on this machine and by ssh.
- ``faults``: those of `tests/clusters/test_faults_on_*.py`, each run as there. A test that does not end in `--timeout`
  seconds is a hang.

    python benchmarks/clusters.py
    python benchmarks/clusters.py --on kube --parts starts training --rounds 3

The result is written after each round, training, notebook and fault. What was measured on the same day and is not
measured now stays in it.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import _group_walk
import _harness as harness
import _notebooks
import equivalence
from _outcomes import outcomes

# In this folder's place, where this file would be taken for the folder of tests.
sys.path.pop(0)
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from clusters.kube_cluster import KubeCluster, wait_until
from clusters.leftovers_of_jobs import left_on_nodes
from clusters.leftovers_of_pods import left_in_cluster
from clusters.slurm_cluster import SlurmCluster
from clusters.training_job import FIRST_EPOCH, end_of, output_of, submitted, write_notebook
from hosts.cluster import Hosts
from hosts.test_lost import left_on

from eai_notebook.cluster import registry
from eai_notebook.cluster.kube_jobs.pod_template import LEASE
from eai_notebook.session import Session, Watcher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NAME = "clusters"
CASES = [("dense", "sgd"), ("dense", "adam"), ("embedding", "sgd")]
FAULTS = Path(__file__).resolve().parent.parent / "tests" / "clusters"
IMPORTS = [sys.executable, "-c", "import eai_notebook.cluster.engine_process"]
PARTS = ("starts", "training", "notebooks", "killed", "walk", "faults")
MODES = {"ring": 0, "ps": 1}
"""The parameter servers of each mode."""


@dataclass(frozen=True)
class Cluster:
    """A cluster that is up.

    Attributes:
        where: The options of a group on it.
        where_jobs: The options of a notebook as a job on it.
        folder: A folder that its nodes share.
        plain_seconds: Runs a plain job of two ranks, and returns how long that takes.
        kill: Kills a job that runs, as the cluster does that needs its machine; it then starts again.
        left: Returns what groups and jobs have left.
    """

    where: dict[str, Any]
    where_jobs: dict[str, Any]
    folder: Path
    plain_seconds: Callable[[], float]
    kill: Callable[[str], None]
    left: Callable[[], list[str]]


@contextlib.contextmanager
def slurm() -> Iterator[Cluster]:
    """Give a Slurm of three nodes."""
    with SlurmCluster(3, cores=4) as made, mock.patch.dict(os.environ, made.environment()):
        folder = _own_folder(made.hosts.folder)
        where = {"slurm": True, "nodes": 2, "time": "40"}

        def left() -> list[str]:
            with contextlib.suppress(AssertionError):  # what is left then is named below
                made.wait_until_idle()
            groups = [entry.name for entry in registry.entries()]
            return [*made.jobs(), *left_on_nodes(made), *groups]

        def kill(job: str) -> None:
            made.slurm("scontrol", "requeue", job)

        yield Cluster(where, where, folder, lambda: made.run_plain_job(IMPORTS), kill, left)


@contextlib.contextmanager
def kube() -> Iterator[Cluster]:
    """Give a Kubernetes of two nodes."""
    with KubeCluster(2) as made, mock.patch.dict(os.environ, KUBECONFIG=str(made.kubeconfig)):
        folder = _own_folder(made.folder)

        def left() -> list[str]:
            for job in made.jobs():
                if "-nb-" in job:  # a notebook's: its object stays, so that its end can be read
                    made.delete_job(job)
            return left_in_cluster(made)

        def kill(job: str) -> None:
            name = job.partition("/")[2]
            (pod,) = (pod for pod in made.names("pods") if pod.startswith(name))
            made.evict_pod(pod, grace_s=1)

        job_pods = made.job_pod_file(folder, annotations={LEASE: "8"})
        yield Cluster(
            {"kube": str(made.pod_file())},
            {"kube": str(job_pods)},
            folder,
            lambda: plain_seconds(made),
            kill,
            left,
        )


@contextlib.contextmanager
def ssh() -> Iterator[Cluster]:
    """Give two hosts that ssh reaches."""
    with Hosts(2) as made, mock.patch.dict(os.environ, made.environment()):
        where = {"hosts": ",".join(f"{name}:1" for name in made.names)}
        folder = _own_folder(made.folder)
        yield _only_groups(where, folder, lambda: left_on(made, 15.0))


@contextlib.contextmanager
def local() -> Iterator[Cluster]:
    """Give this machine."""
    with tempfile.TemporaryDirectory() as parent, mock.patch.dict(os.environ):
        yield _only_groups({"size": 2}, _own_folder(Path(parent)), list)


def _only_groups(where: dict[str, Any], folder: Path, left: Callable[[], list[str]]) -> Cluster:
    """Return a place for groups, without jobs."""

    def every() -> list[str]:
        return [*left(), *(entry.name for entry in registry.entries())]

    return Cluster(where, {}, folder, start_seconds, lambda _job: None, every)


CLUSTERS = {"slurm": slurm, "kube": kube}
PLACES = {"local": local, "ssh": ssh, **CLUSTERS}


def _own_folder(parent: Path) -> Path:
    """Make a folder, with the registry of groups and jobs in it: others of this machine are none of ours."""
    folder = Path(tempfile.mkdtemp(dir=parent))
    os.environ["XDG_STATE_HOME"] = str(folder / "state")
    os.environ["JUPYTER_RUNTIME_DIR"] = str(folder / "runtime")
    return folder


class Quiet(Watcher):
    """Shows nothing."""

    def text(self, stream: str, text: str) -> None:
        """Drop it."""


def plain_seconds(kube: KubeCluster) -> float:
    """Return how long a job of two pods takes that import an engine's program and end."""
    taken = kube.run_plain_job(IMPORTS)
    left_in_cluster(kube)
    return taken


def start_seconds(**where: Any) -> float:
    """Return how long a group of two takes to be up, in seconds."""
    session = Session(2, watcher=Quiet(), **where)
    begin = time.perf_counter()
    session.up()
    taken = time.perf_counter() - begin
    session.down()
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


class Result:
    """What has been measured, by cluster; each addition is written at once."""

    def __init__(self) -> None:
        self.measured: dict[str, dict[str, Any]] = harness.earlier(NAME)

    def add(self, name: str, **found: Any) -> None:
        """Add what was found on a cluster."""
        self.measured.setdefault(name, {}).update(found)
        harness.keep(NAME, self.summary(), self.measured)

    def summary(self) -> dict[str, Any]:
        """Return the figures of what there is so far."""
        every = self.measured
        ratios = {
            f"{name}_start_ratio": start_ratio(found["starts"])
            for name, found in every.items()
            if "starts" in found
        }
        faults = [found["faults"] for found in every.values() if "faults" in found]
        trained = [found["difference"] for found in every.values() if "difference" in found]
        notebooks = [
            each["difference"]
            for found in every.values()
            for each in found.get("notebooks", {}).values()
        ]
        walks = [each for found in every.values() for each in found.get("walk", {}).values()]
        killed = [found["killed"] for found in every.values() if "killed" in found]
        return {
            **ratios,
            "faults": sum(len(each["seconds"]) for each in faults),
            "faults_wrong": sum(len(each["wrong"]) for each in faults),
            "left_behind": sum(
                len(left) for found in every.values() for left in found.get("left", {}).values()
            )
            + sum(len(each["left"]) for each in walks),
            "hangs": sum(len(each["hangs"]) for each in faults),
            "killed_differ": sum(each["whole"] != each["again"] for each in killed),
            "max_rel_diff": max(trained, default=None),
            "notebooks_max_rel_diff": max(notebooks, default=None),
            "walks": len(walks),
            "walks_max_rel_diff": max((each["training"] for each in walks), default=None),
        }


def measure_starts(name: str, cluster: Cluster, result: Result, rounds: int) -> None:
    """Start groups and plain jobs in turns."""
    starts: dict[str, list[float]] = {"local": [], "plain": [], "group": []}
    for number in range(1, rounds + 1):
        starts["local"].append(start_seconds())
        starts["plain"].append(cluster.plain_seconds())
        starts["group"].append(start_seconds(**cluster.where))
        cluster.left()  # the next one starts on nodes that are free
        last = {kind: round(taken[-1], 2) for kind, taken in starts.items()}
        harness.say(f"{name} {number}/{rounds} {last} s")
        result.add(name, starts=starts)


def start_ratio(starts: dict[str, list[float]]) -> float:
    """Return what a group takes beyond a local one, in units of the plain job."""
    every = zip(starts["group"], starts["local"], starts["plain"], strict=True)
    return round(statistics.median((group - local) / plain for group, local, plain in every), 3)


def measure_notebooks(
    name: str, cluster: Cluster, result: Result, here: dict[str, list[float]]
) -> None:
    """Compare the losses of notebooks as jobs with those of a run `here`, which is made if there is none."""
    found: dict[str, Any] = {}
    with mock.patch.dict(os.environ, _notebooks.settings(cluster.folder)):
        for notebook in _notebooks.NAMES:
            if notebook not in here:
                own_folder = cluster.folder / f"{notebook}-here"
                here[notebook] = _notebooks.losses(notebook, own_folder, None)
            job = _notebooks.losses(
                notebook, cluster.folder / f"{notebook}-job", cluster.where_jobs
            )
            apart = _notebooks.largest_difference(here[notebook], job)
            found[notebook] = {"losses": job, "difference": apart}
            harness.say(f"{name} {notebook}: {len(job)} losses, {apart:.1e} apart")
            result.add(name, notebooks=found)


def measure_killed(name: str, cluster: Cluster, result: Result) -> None:
    """Kill a job in its second epoch; compare loss and weights at its end with those of one that was left alone."""
    folder = cluster.folder / "killed"
    folder.mkdir()
    notebook = write_notebook(folder)
    with _working_in(folder):
        whole = end_of(submitted(notebook, cluster.where_jobs, "whole", folder="kept-1"))
        job = submitted(notebook, cluster.where_jobs, "again", folder="kept-2", waits=True)
        wait_until(lambda: list((folder / "kept-2").glob(FIRST_EPOCH)))
        cluster.kill(job.identity)
        wait_until(lambda: "started again" in output_of(job))
        (folder / "kept-2" / "asked").touch()  # the second start is not to wait for a kill
        again = end_of(job)
    resumed = re.findall(r"resuming from epoch \d+, step \d+", output_of(job))
    harness.say(f"{name}: killed, {', '.join(resumed)}; {again}")
    result.add(name, killed={"whole": whole, "again": again, "resumed": resumed})


@contextlib.contextmanager
def _working_in(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def measure_walk(name: str, cluster: Cluster, result: Result, alone: Any) -> None:
    """Walk through what a group is for, by ring and by parameter servers."""
    found: dict[str, Any] = {}
    where = {"size": 2, **cluster.where} if "hosts" not in cluster.where else cluster.where
    for mode, servers in MODES.items():
        found[mode] = _group_walk.walk(where, servers, alone)
        found[mode]["left"] = cluster.left()
        harness.say(f"{name} {mode}: {found[mode]}")
        result.add(name, walk=found)


def inject_faults(name: str, result: Result, timeout: float) -> None:
    """Run every fault; add the seconds of each by name, and which failed or hung."""
    faults: dict[str, Any] = {"seconds": {}, "wrong": {}, "hangs": []}
    for found in outcomes(FAULTS / f"test_faults_on_{name}.py", timeout):
        fault, wrong = found["name"], found["wrong"]
        if found["part"] == "call":
            faults["seconds"][fault] = found["seconds"]
        if wrong:
            faults["wrong"][fault] = wrong
        if "from pytest-timeout" in wrong and fault not in faults["hangs"]:
            faults["hangs"].append(fault)
        result.add(name, faults=faults)


def main() -> None:
    """Measure starts, train, run notebooks, inject the faults."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--on", choices=PLACES, nargs="+", default=list(PLACES))
    parser.add_argument("--parts", choices=PARTS, nargs="+", default=list(PARTS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--timeout", type=float, default=240.0)
    asked = parser.parse_args()
    result = Result()
    here: dict[str, list[float]] = {}
    alone: Any = None
    for name in asked.on:
        possible = PARTS if name in CLUSTERS else ("walk",)
        parts = [part for part in possible if part in asked.parts]
        if parts not in ([], ["faults"]):
            with PLACES[name]() as cluster:
                left = dict(result.measured.get(name, {}).get("left", {}))
                for part in parts:
                    if part == "starts":
                        measure_starts(name, cluster, result, asked.rounds)
                    elif part == "training":
                        result.add(name, difference=training_difference(**cluster.where))
                    elif part == "notebooks":
                        measure_notebooks(name, cluster, result, here)
                    elif part == "killed":
                        measure_killed(name, cluster, result)
                    elif part == "walk":
                        alone = _group_walk.reference() if alone is None else alone
                        measure_walk(name, cluster, result, alone)
                    left[part] = cluster.left()
                    result.add(name, left=left)
        if "faults" in parts:
            inject_faults(name, result, asked.timeout)
    harness.finish(NAME, result.summary(), result.measured)


if __name__ == "__main__":
    main()
