"""A whole notebook as one job of Slurm: its script, its submission, its state, its requeue."""

from __future__ import annotations

import contextlib
import os
import shlex
from typing import TYPE_CHECKING, Any, ClassVar, Final

from eai_notebook.cluster.batch_system import (
    AGAIN,
    OUTPUT_FILE,
    STOP_FILE,
    BatchJob,
    BatchState,
    BatchSystem,
)
from eai_notebook.cluster.forwarding import MORE
from eai_notebook.cluster.slurm_jobs import job_queue
from eai_notebook.cluster.slurm_jobs.job_script import OURS, SCRIPT, JobRequest, job_environment
from eai_notebook.errors import EaiError
from eai_notebook.files import write_private

if TYPE_CHECKING:
    from eai_notebook.cluster.slurm_jobs.site_settings import SlurmSite

NOTICE_S: Final = 120
"""How long before the time limit the training is asked for a checkpoint, in seconds; of a short
limit, a quarter."""
LEAVE_S: Final = 3
"""How long a notebook may still write a checkpoint after SIGTERM, before it is interrupted."""
_ENDED_BY_ITSELF: Final = ("COMPLETED", "FAILED", job_queue.GONE)


class SlurmNotebookJobs(BatchSystem):
    """Runs notebooks as jobs that ask for what `request` says."""

    group_options: ClassVar[dict[str, Any]] = {"slurm": True}

    def __init__(self, request: JobRequest, site: SlurmSite) -> None:
        self._request = request
        self._site = site

    def describe(self, job: BatchJob) -> str:
        """Return the job's script."""
        notice = notice_seconds(self._request.time)
        request = self._request.for_notebook(job.name, f"--signal=B:USR1@{notice}")
        stop = shlex.quote(str(job.folder / STOP_FILE))
        work = shlex.quote(str(job.work))
        return "\n".join(
            [
                f"#!/bin/bash{' -l' if self._site.lines else ''}",
                *(f"#SBATCH {option}" for option in request.options(self._site)),
                f"#SBATCH --output={job.folder / OUTPUT_FILE}",
                "#SBATCH --open-mode=append",
                "",
                f"cd {work} || {{ echo '{OURS}there is no folder {job.work} on this node'; exit 9; }}",
                *self._site.lines,
                "# The notebook with its kernel; its group of ranks starts in this job's allocation.",
                f"{shlex.join(job.command)} &",
                "notebook=$!",
                "limit=",
                "# Before the time limit: the training writes a checkpoint, and the job is queued again.",
                f"trap 'limit=yes; : >{stop}' USR1",
                "# Cancelled or preempted: a checkpoint if there is time, then the notebook is interrupted.",
                f"trap ': >{stop}; (sleep {LEAVE_S}; kill -TERM \"$notebook\") 2>/dev/null &' TERM",
                'wait "$notebook"',
                "code=$?",
                'while kill -0 "$notebook" 2>/dev/null; do wait "$notebook"; code=$?; done',
                f'if [ "$code" = {AGAIN} ] && [ -n "$limit" ]; then scontrol requeue "$SLURM_JOB_ID"; fi',
                'exit "$code"',
                "",
            ]
        )

    def submit(self, job: BatchJob) -> str:
        """Submit the job with ``sbatch``; return its number."""
        script = job.folder / SCRIPT
        write_private(script, self.describe(job))
        known = job_environment(os.environ)
        if MORE in os.environ:  # the job starts a group, and sends the same variables on
            known[MORE] = os.environ[MORE]
        done = job_queue.run(["sbatch", "--parsable", str(script)], known)
        if done.returncode:
            raise EaiError(
                f"Slurm refuses the job ({job_queue.last_words(done)})",
                "`--show` prints its script; `sinfo` lists partitions and limits",
                code="slurm-refused",
            )
        return done.stdout.strip().splitlines()[-1].partition(";")[0]

    def look(self, identity: str) -> BatchState | None:
        """Return the job's state in the text of ``squeue``."""
        found = job_queue.look(identity)
        if found is None:
            return None
        end = ""
        if found.is_over and found.state not in _ENDED_BY_ITSELF:
            end = job_queue.ENDS.get(found.state, f"ended as {found.state}")
        return BatchState(found.words(), found.is_queued, found.is_over, end)

    def cancel(self, identity: str) -> None:
        """Cancel the job."""
        with contextlib.suppress(EaiError):
            job_queue.run(["scancel", "--quiet", identity])

    def title(self, identity: str) -> str:
        """Return the job's number."""
        return f"Slurm job {identity}"


def notice_seconds(limit: str | None) -> int:
    """Return how long before a time limit the training is asked for a checkpoint, in seconds.

    Examples:
        >>> notice_seconds("2:00:00"), notice_seconds("2"), notice_seconds(None)
        (120, 30, 120)
    """
    known = None if limit is None else job_queue.limit_seconds(limit)
    return NOTICE_S if known is None else max(1, min(NOTICE_S, int(known / 4)))
