"""The process beside a job, on the notebook's machine: submits it, follows it, cancels it.

For the group it is what ``mpirun`` is elsewhere: it runs as long as the ranks do, prints their
output, and ends them on SIGTERM. Run as ``python -m eai_notebook.cluster.slurm_jobs.job_runner
ORDER``, where ORDER is a file with the fields of `Order`.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from eai_notebook.cluster.slurm_jobs import job_queue
from eai_notebook.cluster.slurm_jobs.job_queue import JobState
from eai_notebook.cluster.slurm_jobs.job_script import ALIVE, ENDED, OUTPUT, SCRIPT, job_environment
from eai_notebook.errors import EaiError
from eai_notebook.files import write_private

if TYPE_CHECKING:
    from collections.abc import Mapping

TICK_S: Final = 0.2
QUEUED_S: Final = 2.0
RUNNING_S: Final = 5.0
ALIVE_S: Final = 5.0
_OF_THE_JOB: Final = ("SLURM_JOB_", "SLURM_JOBID", "SLURM_CONF", "SLURM_CLUSTER", "SLURM_WORKING")
CANCEL_S: Final = 12.0
"""How long a cancelled job may take to leave before its processes are killed."""


@dataclass(frozen=True)
class Order:
    """What is to be done: the job's ``folder``, where to keep its ``state``, how many ranks.

    With an ``allocation`` (a job's number) the script runs inside of that; else it is submitted.
    """

    folder: str
    state: str
    allocation: str = ""
    size: int = 1

    def write(self, file: Path) -> None:
        """Put the order into `file`."""
        write_private(file, json.dumps(asdict(self)))


class JobRunner:
    """Runs one order."""

    def __init__(self, order: Order) -> None:
        self._folder = Path(order.folder)
        self._file = Path(order.state)
        self._allocation = order.allocation
        self._size = order.size
        self._script: subprocess.Popen[bytes] | None = None
        self._state = JobState(order.allocation, "SUBMITTED", at=time.time())
        self._read = 0
        self._looked = self._noted = 0.0
        self._ended = False
        self.stopped = threading.Event()

    def run(self) -> int:
        """Run the job to its end, or until `stopped`; return the exit code of this process."""
        try:
            self._note_alive()
            self._start()
            while not self._state.is_over and not self.stopped.wait(TICK_S):
                self._note_alive()
                self._show_output()
                self._look()
            if self.stopped.is_set():
                self._cancel()
            self._show_output()
        except EaiError as error:
            _say(f"eai: {error.what}")
            return 1
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)
        return 0 if self._state.state in ("COMPLETED", "CANCELLED") else 1

    def _start(self) -> None:
        script = self._folder / SCRIPT
        if self._allocation:
            with (self._folder / OUTPUT).open("ab") as log:
                self._script = subprocess.Popen(
                    ["bash", str(script)],
                    env=allocation_environment(os.environ, self._size),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            self._look(now=True)
            return
        done = job_queue.run(["sbatch", "--parsable", str(script)], job_environment(os.environ))
        if done.returncode:
            raise job_queue.refusal(done, "%eai up ... --show")
        job = done.stdout.strip().splitlines()[-1].partition(";")[0]
        self._take(JobState(job, "SUBMITTED", at=time.time()))
        self._look(now=True)

    def _look(self, *, now: bool = False) -> None:
        """Look the job up when it is time, or when its output says that it has ended."""
        if self._script is not None and self._script.poll() is not None:
            self._take(JobState(self._state.job, "COMPLETED", at=time.time()))
            return
        pause = QUEUED_S if self._state.is_queued else RUNNING_S
        if self._ended:
            pause = TICK_S
        if not now and time.monotonic() - self._looked < pause:
            return
        self._looked = time.monotonic()
        found = job_queue.look(self._state.job)
        if found is not None:
            self._take(found)

    def _take(self, state: JobState) -> None:
        self._state = state
        state.write(self._file)

    def _note_alive(self) -> None:
        if time.monotonic() - self._noted > ALIVE_S or not self._noted:
            self._noted = time.monotonic()
            with contextlib.suppress(OSError):
                write_private(self._folder / ALIVE, repr(time.time()))

    def _show_output(self) -> None:
        """Print what the job has printed since."""
        try:
            with (self._folder / OUTPUT).open("rb") as file:
                file.seek(self._read)
                data = file.read()
        except OSError:
            return
        self._read += len(data)
        self._ended = self._ended or ENDED.encode() in data
        sys.stdout.buffer.write(data)
        sys.stdout.flush()

    def _cancel(self) -> None:
        """End the job, or in an allocation its script, and wait until it has ended."""
        if self._script is not None:
            self._end_script(self._script)
            self._take(JobState(self._state.job, "COMPLETED", at=time.time()))
            return
        _cancel(self._state.job)
        # Now, as this process may be killed while it waits: the folder may hold keys.
        shutil.rmtree(self._folder, ignore_errors=True)
        until, killed = time.monotonic() + CANCEL_S, False
        while not self._state.is_over or self._state.state == "COMPLETING":
            if time.monotonic() > until:
                if killed:
                    return
                _cancel(self._state.job, "--signal=KILL", "--full")
                until, killed = time.monotonic() + CANCEL_S, True
            time.sleep(TICK_S)
            self._look(now=True)

    def _end_script(self, script: subprocess.Popen[bytes]) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(script.pid, signal.SIGTERM)
        try:
            script.wait(CANCEL_S)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(script.pid, signal.SIGKILL)
            script.wait()


def allocation_environment(environment: Mapping[str, str], size: int) -> dict[str, str]:
    """Return the environment of a script in an allocation: as in its batch script.

    Within a step of the job ``mpirun`` and ``srun`` would read the step's nodes and tasks instead of
    the job's. Of the user's variables the same go along as to a job.
    """
    job = {name: value for name, value in environment.items() if name.startswith(_OF_THE_JOB)}
    nodes = int(job.get("SLURM_JOB_NUM_NODES", "1"))
    return {
        **job_environment(environment),
        **job,
        "SLURM_NODELIST": job.get("SLURM_JOB_NODELIST", ""),
        "SLURM_NNODES": str(nodes),
        "SLURM_TASKS_PER_NODE": f"{-(-size // nodes)}(x{nodes})",
    }


def _cancel(job: str, *options: str) -> None:
    with contextlib.suppress(EaiError):
        job_queue.run(["scancel", "--quiet", *options, job])


def _say(words: str) -> None:
    sys.stdout.write(words + "\n")
    sys.stdout.flush()


def main() -> None:
    """Run the order in the file that the first argument names."""
    runner = JobRunner(Order(**json.loads(Path(sys.argv[1]).read_text())))
    # Before the job exists: a signal must find it, and not end this process without it.
    signal.signal(signal.SIGTERM, lambda *_: runner.stopped.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(runner.run())


if __name__ == "__main__":
    main()
