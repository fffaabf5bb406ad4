"""Runs a Python module as ranks in pods, as a group's are run: the same job, checks and ``mpirun``."""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eai_notebook.cluster.batch_system import OURS
from eai_notebook.cluster.kube_jobs.pod_order import PodsState
from eai_notebook.cluster.mpirun_output import explain
from eai_notebook.errors import EaiError
from eai_notebook.process_lease import leased_process
from eai_notebook.python_command import module_command

if TYPE_CHECKING:
    import subprocess

    from eai_notebook.cluster.kube_jobs.pod_order import PodOrder

POLL_S = 0.2


def run_in_pods(order: PodOrder, module: str, *, mark: str, patience: float) -> dict[str, Any]:
    """Run ``python -m module`` on all ranks of `order`; return what rank 0 printed after `mark`.

    A job that does not run in `patience` seconds is deleted.

    Raises:
        EaiError: Kubernetes or a pod refused it, it failed, or it did not run in time.
    """
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder) / "state.json"
        file = Path(folder) / "order.json"
        replace(order, state=str(state), rank=module_command(module)).write(file)
        command = module_command("eai_notebook.cluster.kube_jobs.pod_runner", str(file))
        with leased_process(command, patience=20.0) as runner:
            last = _wait(runner, state, patience)
            output = runner.stdout.read() if runner.stdout else ""
    for line in output.splitlines():
        if mark in line:
            found: dict[str, Any] = json.loads(line.partition(mark)[2])
            return found
    ours = [line.removeprefix(OURS) for line in output.splitlines() if line.startswith(OURS)]
    late = "" if last is None else f"it did not end in {patience:.0f} s: {last.words}"
    reason = "; ".join(ours) or late or explain(output) or "no reason given"
    raise EaiError(
        f"the job of two ranks failed ({reason})",
        "`eai-notebook kube manifests -n 2` prints what is created",
        code="kube-pod-failed",
    )


def _wait(runner: subprocess.Popen[str], state: Path, patience: float) -> PodsState | None:
    """Wait for the runner's end; return the last state of one that was too slow."""
    until = time.monotonic() + patience
    while runner.poll() is None:
        if time.monotonic() > until:
            last = PodsState.read(state) or PodsState("", words="no pods were made")
            runner.terminate()
            return last
        time.sleep(POLL_S)
    return None
