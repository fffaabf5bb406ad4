"""A whole notebook as one job of Slurm: its script, its submission, its state, its requeue."""

from __future__ import annotations

import contextlib
import os
import shlex
from typing import TYPE_CHECKING, Any, Final

from eai_notebook.cluster.batch_system import (
    AGAIN,
    OUTPUT_FILE,
    STOP_FILE,
    BatchJob,
    BatchState,
    BatchSystem,
)
from eai_notebook.cluster.forwarding import MORE
from eai_notebook.cluster.notebook_script import go_to_folder, notebook_lines
from eai_notebook.cluster.slurm_jobs import job_queue
from eai_notebook.cluster.slurm_jobs.job_script import SCRIPT, JobRequest, job_environment
from eai_notebook.errors import EaiError
from eai_notebook.files import write_private

if TYPE_CHECKING:
    from pathlib import Path

    from eai_notebook.cluster.slurm_jobs.site_settings import SlurmSite

NOTICE_S: Final = 120
"""How long before the time limit the training is asked for a checkpoint, in seconds; of a short
limit, a quarter."""
LEAVE_S: Final = 3
"""How long a notebook may still write a checkpoint after SIGTERM, before it is interrupted."""
_ENDED_BY_ITSELF: Final = ("COMPLETED", "FAILED", job_queue.GONE)


class SlurmNotebookJobs(BatchSystem):
    """Runs notebooks as jobs that ask for what `request` says."""

    def __init__(self, request: JobRequest, site: SlurmSite) -> None:
        self._request = request
        self._site = site

    def group_options(self, folder: Path) -> dict[str, Any]:  # noqa: ARG002
        """Return what has a group use the job's allocation."""
        return {"slurm": True}

    def describe(self, job: BatchJob) -> str:
        """Return the job's script."""
        notice = notice_seconds(self._request.time)
        request = self._request.for_notebook(job.name, f"--signal=B:USR1@{notice}")
        stop = shlex.quote(str(job.folder / STOP_FILE))
        traps = [
            "limit=",
            "# Before the time limit: the training writes a checkpoint, and the job is queued again.",
            f"trap 'limit=yes; : >{stop}' USR1",
        ]
        return "\n".join(
            [
                f"#!/bin/bash{' -l' if self._site.lines else ''}",
                *(f"#SBATCH {option}" for option in request.options(self._site)),
                f"#SBATCH --output={job.folder / OUTPUT_FILE}",
                "#SBATCH --open-mode=append",
                "",
                go_to_folder(job, "on this node"),
                *self._site.lines,
                *notebook_lines(job, LEAVE_S, traps=traps),
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
            raise job_queue.refusal(done, "--show")
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
