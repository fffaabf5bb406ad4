"""Checks the nodes of a job from inside of it, before ranks start; prints their environment.

A node with another Python, without the working folder or without a way to the notebook is named here,
instead of ranks that never come. Run by the job's script as ``python -m
eai_notebook.cluster.slurm_jobs.node_check FOLDER``; its output is for the shell's ``eval``.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from eai_notebook.cluster import host_probe, listening, remote_python
from eai_notebook.cluster.batch_system import OURS
from eai_notebook.cluster.host_findings import (
    PACKAGES,
    HostFinding,
    networks_of,
    same_paths,
    same_software,
    way_back,
)
from eai_notebook.cluster.mpi_environment import AWAY, rank_environment
from eai_notebook.cluster.mpirun_arguments import network_arguments
from eai_notebook.cluster.slurm_jobs.job_script import QUESTION
from eai_notebook.files import write_private
from eai_notebook.python_command import code_command

CHECK_S: Final = 60.0


@dataclass(frozen=True)
class Question:
    """What nodes are compared with: the notebook's machine."""

    controller: tuple[str, int]
    """Address and port that ranks connect to."""
    mpirun: str
    folder: str
    size: int
    mine: dict[str, Any] = field(default_factory=dict)
    """The software, as `host_findings.own_software` returns it."""

    def write(self, folder: Path) -> None:
        """Put the question into the job's folder."""
        write_private(folder / QUESTION, json.dumps(asdict(self)))

    @classmethod
    def read(cls, folder: Path) -> Question:
        """Return the question of the job's folder."""
        return cls(**json.loads((folder / QUESTION).read_text()))


def main() -> None:
    """Check all nodes; exit with 1 if one is not fit, with its reasons on stderr."""
    question = Question.read(Path(sys.argv[1]))
    names = _node_names()
    answers, said = _ask_nodes(names, question)
    failures = judge(names, answers, question, said)
    for each in failures:
        sys.stderr.write(f"{OURS}{each.host}: {each.found}: {each.remedy}\n")
    if failures:
        sys.exit(1)
    for name, value in environment(answers, question.size).items():
        sys.stdout.write(f"export {name}={shlex.quote(value)}\n")


def judge(
    names: list[str], answers: dict[str, dict[str, Any]], question: Question, said: str = ""
) -> list[HostFinding]:
    """Return why nodes are not fit; `said` is what ``srun`` printed besides the answers."""
    failures = []
    for name in names:
        answer = answers.get(name)
        if answer is None:
            lines = [line for line in said.splitlines() if name in line] or said.splitlines()
            words = remote_python.last_line(lines)
            remedy = "make the same environment on every node, at the same path"
            found = f"its Python ({sys.executable}) did not run ({words})"
            failures.append(HostFinding(name, "Python", "fail", found, remedy))
            continue
        found_lines = [
            same_software(name, answer, question.mine),
            same_paths(name, answer, question.mpirun, question.folder),
            way_back(name, answer, question.controller[0]),
        ]
        failures += [each for each in found_lines if each.state == "fail"][:1]
    return failures


def environment(answers: dict[str, dict[str, Any]], size: int) -> dict[str, str]:
    """Return the environment of ``mpirun`` and its ranks on these nodes."""
    found = list(answers.values())
    per_node = -(-size // len(found))
    cores = min(_cores_of_job(os.environ.get("SLURM_JOB_CPUS_PER_NODE", "")), default=None)
    networks = ",".join(networks_of(found))
    fabric = all(answer["fabric"] for answer in found)
    return {
        **rank_environment(per_node, cores, in_job=True),
        **AWAY,
        **listening.environment(networks, listening.library()),
        "EAI_NETWORK_ARGUMENTS": " ".join(network_arguments(networks, fabric=fabric)),
    }


def _cores_of_job(text: str) -> list[int]:
    """Return the cores of each kind of node, from ``SLURM_JOB_CPUS_PER_NODE``.

    Examples:
        >>> _cores_of_job("16(x3),8")
        [16, 8]
    """
    return [int(part) for part in re.findall(r"(\d+)(?:\(x\d+\))?(?:,|$)", text)]


def _node_names() -> list[str]:
    nodes = os.environ.get("SLURM_JOB_NODELIST", "")
    done = subprocess.run(
        ["scontrol", "show", "hostnames", nodes], capture_output=True, text=True, check=False
    )
    return done.stdout.split() or [os.environ.get("SLURMD_NODENAME", "this node")]


def _ask_nodes(names: list[str], question: Question) -> tuple[dict[str, dict[str, Any]], str]:
    """Return the answer of each node by its name, and what ``srun`` printed besides."""
    count = str(len(names))
    # Beside the step that this may run in: with Slurm's default it would wait for that one's end.
    step = ["srun", "--overlap", "--mpi=none", "--export=ALL", "--input=all"]
    step += [f"--nodes={count}", f"--ntasks={count}", "--ntasks-per-node=1"]
    asked = {
        "packages": PACKAGES,
        "controller": list(question.controller),
        "mpirun": question.mpirun,
        "folder": question.folder,
    }
    source = Path(host_probe.__file__).read_text(encoding="utf-8")
    try:
        done = subprocess.run(
            [*step, *code_command(remote_python.BOOT)],
            input=f"{json.dumps(source)}\n{json.dumps(asked)}\n",
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=CHECK_S,
        )
    except subprocess.TimeoutExpired:
        return {}, f"no answer in {CHECK_S:.0f} s"
    answers = {}
    for line in done.stdout.splitlines():
        if line.startswith(host_probe.MARK):
            answer = json.loads(line.removeprefix(host_probe.MARK))
            answers[answer["node"] or names[0]] = answer
    return answers, done.stderr


if __name__ == "__main__":
    main()
