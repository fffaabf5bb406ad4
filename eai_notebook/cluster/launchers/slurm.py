"""The Slurm launcher: ranks in a job, or in the allocation that the notebook runs in."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import tempfile
import time
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any, ClassVar, Final

import platformdirs

from eai_notebook.cluster.batch_system import OURS
from eai_notebook.cluster.client import connection_file
from eai_notebook.cluster.host_findings import own_software
from eai_notebook.cluster.launcher import INTERFACE, Launcher, Option
from eai_notebook.cluster.mpi_environment import find_mpirun
from eai_notebook.cluster.mpirun_output import cause_of_death, lost_host
from eai_notebook.cluster.preflight import controller_address
from eai_notebook.cluster.slurm_jobs import job_queue
from eai_notebook.cluster.slurm_jobs.job_queue import JobState
from eai_notebook.cluster.slurm_jobs.job_runner import Order
from eai_notebook.cluster.slurm_jobs.job_script import (
    KEYS,
    SCRIPT,
    JobRequest,
    job_environment,
    job_script,
)
from eai_notebook.cluster.slurm_jobs.node_check import Question
from eai_notebook.cluster.slurm_jobs.notebook_job import SlurmNotebookJobs
from eai_notebook.cluster.slurm_jobs.site_settings import read_site
from eai_notebook.errors import EaiError
from eai_notebook.files import private_folder, write_private
from eai_notebook.python_command import module_command

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from eai_notebook.cluster.interruptible import Progress
    from eai_notebook.cluster.registry import Entry

_STATE: Final = "slurm.json"
_WARN_S: Final = (600.0, 120.0)
"""When the user is warned of the time limit, in seconds before it."""


class SlurmLauncher(Launcher):
    """One job for the ranks of a group: ``sbatch``, and an ``mpirun`` in it."""

    name: ClassVar[str] = "slurm"
    options: ClassVar[tuple[Option, ...]] = (
        Option("slurm", "as a job of Slurm, or in the allocation that this runs in", flag=True),
        Option("partition", "the job's partition", metavar="P"),
        Option("time", "the job's time limit, as 2:00:00", metavar="T"),
        Option("nodes", "over so many nodes", metavar="N", type=int),
        Option("gpus_per_node", "GPUs of each node, a rank each", metavar="G", type=int),
        Option("cpus_per_task", "cores of each rank", metavar="C", type=int),
        Option("account", "the account that is charged", metavar="A"),
        Option("qos", "the job's quality of service", metavar="Q"),
        Option("sbatch", "more options of sbatch, in quotes", metavar="OPTIONS"),
        INTERFACE,
    )
    selected_by: ClassVar[str | None] = "slurm"
    is_away: ClassVar[bool] = True

    def __init__(self, size: int | None, options: Mapping[str, Any]) -> None:
        self._allocation = os.environ.get("SLURM_JOB_ID", "")
        super().__init__(size, options)
        self._site = read_site()
        self._address: str | None = None
        self._folder = Path()
        self._file: Path | None = None
        self._limit_note = ""
        self._warned: set[float] = set()

    def choose_size(self, size: int | None) -> int:
        """Return the number asked for, or the tasks of the allocation, or nodes times GPUs."""
        if self._allocation:
            wrong = sorted(self.given.keys() - {"slurm", "interface"})
            if wrong:
                texts = " ".join(f"--{name.replace('_', '-')}" for name in wrong)
                raise EaiError(
                    f"{texts} cannot change job {self._allocation}, in which this notebook runs",
                    "leave it out: ranks run in the allocation that there is",
                    code="slurm-in-allocation",
                )
            size = size or _tasks_of(self._allocation)
        nodes, gpus = self.given.get("nodes"), self.given.get("gpus_per_node")
        if size is None and nodes and gpus:
            size = nodes * gpus
        if size is None:
            raise EaiError(
                "a job needs a number of ranks", "say it: `%eai up -n 4 --slurm`", code="group-size"
            )
        if nodes and not 1 <= nodes <= size:  # Slurm would quietly use fewer
            raise EaiError(
                f"{size} ranks cannot be on {nodes} nodes",
                "ask for as many nodes as ranks, or fewer",
                code="group-size",
            )
        return size

    @property
    def place(self) -> str:
        """The partition."""
        return f"slurm {self.given.get('partition', '')}".strip()

    # -- before a start -----------------------------------------------------------------

    def prepare(self, progress: Progress) -> None:
        """Ask Slurm whether it would take the job, and choose the interface for the way back."""
        progress("asking Slurm")
        self._warned = set()
        partition = self.given.get("partition")
        nodes = job_queue.node_addresses(partition)
        if not nodes:
            raise EaiError(
                f"Slurm knows no partition {partition}" if partition else "Slurm has no nodes",
                "`sinfo` lists partitions and nodes",
                code="slurm-refused",
            )
        self._address = controller_address(dict(nodes), self.given.get("interface"))
        if self._allocation:
            return
        self._test_submission()
        self._limit_note = _limit_note(partition) if "time" not in self.given else ""

    def _test_submission(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            script = Path(folder) / SCRIPT
            script.write_text(self.describe())
            done = job_queue.run(
                ["sbatch", "--test-only", str(script)], job_environment(os.environ)
            )
        if done.returncode:
            raise job_queue.refusal(done, "%eai up ... --show")

    def describe(self) -> str:
        """Return the script of the job, as ``%eai up --show`` prints it."""
        folder = self._shared_folder() / "NAME"
        rank = module_command(
            "eai_notebook.cluster.engine_process", "--mpi", f"--IPEngine.url_file={folder / KEYS}"
        )
        return self._script("eai", folder, rank)

    def batch_system(self) -> SlurmNotebookJobs | None:
        """Return what submits a notebook; in an allocation the notebook runs where it is."""
        return None if self._allocation else SlurmNotebookJobs(self._request("eai"), self._site)

    def _script(self, name: str, folder: Path, rank: Sequence[str]) -> str:
        return job_script(self._request(name), self._site, folder, rank, Path.cwd())

    def _request(self, name: str) -> JobRequest:
        known = JobRequest.__dataclass_fields__.keys() & self.given.keys()
        more = tuple(shlex.split(self.given.get("sbatch", "")))
        return JobRequest(self.size, name, more=more, **{each: self.given[each] for each in known})

    def _shared_folder(self) -> Path:
        return self._site.folder or platformdirs.user_cache_path("eai-notebook") / "jobs"

    # -- a start ------------------------------------------------------------------------

    @property
    def controller_address(self) -> str | None:
        """The address that the nodes connect back to."""
        return self._address

    @contextlib.contextmanager
    def rank_files(self, entry: Entry) -> Iterator[str]:
        """Put the connection file into a folder that the nodes share, for this user alone."""
        self._folder = private_folder(self._shared_folder()) / f"{entry.name}-{token_hex(4)}"
        self._folder.mkdir(mode=0o700)
        entry.folders.append(str(self._folder))
        entry.write()
        source = connection_file(entry, "engine")
        keys = self._folder / KEYS
        write_private(keys, source.read_text())
        known = json.loads(source.read_text())
        port = int(known["registration"])
        Question(
            (str(self._address), port), find_mpirun(), str(Path.cwd()), self.size, own_software()
        ).write(self._folder)
        try:
            yield str(keys)
        finally:
            with contextlib.suppress(OSError):
                keys.unlink()

    def environment(self) -> dict[str, str]:
        """Return nothing: the ranks' environment is made on their nodes."""
        return {}

    def command(self, rank: Sequence[str], entry: Entry) -> list[str]:
        """Return the process that submits, follows and cancels the job."""
        write_private(self._folder / SCRIPT, self._script(f"eai-{entry.name}", self._folder, rank))
        order = entry.folder / "order.json"
        Order(str(self._folder), str(entry.folder / _STATE), self._allocation, self.size).write(
            order
        )
        return module_command("eai_notebook.cluster.slurm_jobs.job_runner", str(order))

    def started(self, entry: Entry) -> None:
        """Read the job's state from now on."""
        self._file = entry.folder / _STATE

    @property
    def job(self) -> JobState | None:
        """The job's state as it was last looked up; None before it is submitted."""
        return None if self._file is None else JobState.read(self._file)

    @property
    def is_queued(self) -> bool:
        """Whether the job waits for its nodes."""
        job = self.job
        return job is None or job.is_queued

    def progress(self, registered: int) -> str:
        """Return the job's state, then how many ranks are up."""
        job = self.job
        if job is None:
            return "submitting the job"
        words = f"job {job.job}: {job.words()}"
        return words if job.is_queued else f"{words}; {super().progress(registered)}"

    def start_note(self) -> str:
        """Return where the job runs, and its time limit."""
        job = self.job
        words = "" if job is None else f"job {job.job} {job.words()}"
        return "; ".join(filter(None, [words, self._limit_note]))

    # -- while it runs, and after -------------------------------------------------------

    def explain_exit(self, log: str) -> str | None:
        """Return how the job ended, or which rank died of what in a job that ended by itself."""
        job = self.job
        if ours := [line.removeprefix(OURS) for line in log.splitlines() if line.startswith(OURS)]:
            reasons = [line for line in ours if not line.startswith("the ranks ended")]
            if reasons:
                return "; ".join(reasons)
        if job is None or not job.is_over:
            return None  # a death may be the job's end, whose reason Slurm is yet to give
        if job.state in job_queue.ENDS:
            nodes = f" ({job.nodes})" if job.nodes and job.state == "NODE_FAIL" else ""
            return f"Slurm job {job.job} {job_queue.ENDS[job.state]}{nodes}"
        if found := cause_of_death(log):
            return found
        if host := lost_host(log):
            return f"the node {host} was lost (it went down, or its network did)"
        return None

    def end(self) -> None:
        """Cancel a job that its runner has left, and remove its folder."""
        job = self.job
        if job is not None and not self._allocation and not job.is_over:
            with contextlib.suppress(EaiError):
                job_queue.run(["scancel", "--quiet", job.job])
        if self._folder.name:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._file = None

    def status(self) -> list[str]:
        """Return the job's state."""
        job = self.job
        return [] if job is None else [f"  Slurm job {job.job}: {job.words()}"]

    def notices(self) -> list[str]:
        """Warn, once each, ten and two minutes before the time limit."""
        if self._file is None or (job := self._job_now()) is None or job.is_over or job.is_queued:
            return []
        left = job.left_s()
        due = [] if left is None else [at for at in _WARN_S if left <= at]
        if left is None or not set(due) - self._warned:
            return []
        self._warned |= set(due)
        time_left = job_queue.clock_time(left)
        return [f"Slurm ends job {job.job} in {time_left}: save now what is to last"]

    _read_at = 0.0
    _job: JobState | None = None

    def _job_now(self) -> JobState | None:
        """Return the state, read at most once a second."""
        if time.monotonic() - self._read_at > 1.0:
            self._read_at, self._job = time.monotonic(), self.job
        return self._job


def _tasks_of(job: str) -> int | None:
    """Return how many tasks the job has in which this runs; in a step, the variables are the step's."""
    if "SLURM_STEP_ID" in os.environ:
        found = job_queue.ask("squeue", "-h", "-j", job, "-O", "NumTasks").strip()
    else:
        found = os.environ.get("SLURM_NTASKS", "")
    return int(found) if found.isdigit() else None


def _limit_note(partition: str | None) -> str:
    """Return the time limit that holds because the user has named none."""
    chosen = ["-p", partition] if partition else []
    for line in job_queue.ask("sinfo", "-h", *chosen, "-o", "%P|%L|%l").splitlines():
        name, usual, most = line.strip().split("|")
        if partition or name.endswith("*"):
            limit = usual if usual not in ("n/a", "NONE", "") else most
            return f"no --time was given: {name.rstrip('*')} allows {limit}"
    return ""
