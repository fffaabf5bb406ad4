"""Runs a Python module as a short job of Slurm, by the script of a group: same checks, same ``mpirun``."""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any

from eai_notebook.cluster.batch_system import OURS
from eai_notebook.cluster.host_findings import own_software
from eai_notebook.cluster.mpi_environment import find_mpirun
from eai_notebook.cluster.mpirun_output import explain
from eai_notebook.cluster.slurm_jobs.job_queue import JobState
from eai_notebook.cluster.slurm_jobs.job_runner import CANCEL_S, Order
from eai_notebook.cluster.slurm_jobs.job_script import SCRIPT, JobRequest, job_script
from eai_notebook.cluster.slurm_jobs.node_check import Question
from eai_notebook.errors import EaiError
from eai_notebook.files import private_folder, write_private
from eai_notebook.process_lease import leased_process
from eai_notebook.python_command import module_command

if TYPE_CHECKING:
    from eai_notebook.cluster.slurm_jobs.site_settings import SlurmSite

POLL_S = 0.2


def run_in_job(
    request: JobRequest,
    site: SlurmSite,
    shared: Path,
    address: str,
    module: str,
    *,
    mark: str,
    patience: float,
) -> dict[str, Any]:
    """Run ``python -m module`` on all ranks; return what rank 0 printed after `mark`.

    ``shared`` is a folder that the nodes share, ``address`` this machine's, which they must reach.
    A job that does not run in `patience` seconds is cancelled.

    Raises:
        EaiError: Slurm or a node refused it, it failed, or it did not run in time.
    """
    folder = private_folder(shared) / f"check-{token_hex(4)}"
    folder.mkdir(mode=0o700)
    try:
        with socket.create_server((address, 0)) as listener:
            port = int(listener.getsockname()[1])
            Question(
                (address, port), find_mpirun(), str(Path.cwd()), request.size, own_software()
            ).write(folder)
            script = job_script(request, site, folder, module_command(module), Path.cwd())
            write_private(folder / SCRIPT, script)
            allocation = os.environ.get("SLURM_JOB_ID", "")
            order = Order(str(folder), str(folder / "state.json"), allocation, request.size)
            return _follow(order, mark, patience)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _follow(order: Order, mark: str, patience: float) -> dict[str, Any]:
    """Run the job of `order` to its end; its runner removes the folder, also when this process is killed."""
    state, file = Path(order.state), Path(order.folder) / "order.json"
    order.write(file)
    last: JobState | None = None
    command = module_command("eai_notebook.cluster.slurm_jobs.job_runner", str(file))
    with leased_process(command, patience=CANCEL_S + 8.0) as runner:
        until, late = time.monotonic() + patience, False
        while runner.poll() is None:
            last = JobState.read(state) or last
            if time.monotonic() > until and not late:
                late = True
                runner.terminate()
            time.sleep(POLL_S)
        assert runner.stdout is not None  # noqa: S101  PIPE was asked for
        output = runner.stdout.read()
    for line in output.splitlines():
        if mark in line:
            found: dict[str, Any] = json.loads(line.partition(mark)[2])
            return found
    raise _failure(output, last, patience if late else None)


def _failure(output: str, last: JobState | None, patience: float | None) -> EaiError:
    if patience is not None:
        words = "it was not submitted" if last is None else last.words()
        return EaiError(
            f"the job did not run in {patience:.0f} s ({words})",
            "try a partition with free nodes: `--partition`",
            code="slurm-no-nodes",
        )
    ours = [line.removeprefix(OURS) for line in output.splitlines() if line.startswith(OURS)]
    reasons = [line for line in ours if not line.startswith("the ranks ended")]
    return EaiError(
        f"the job failed ({'; '.join(reasons) or explain(output) or 'no reason given'})",
        "`%eai up ... --show` prints its script",
        code="slurm-job-failed",
    )
