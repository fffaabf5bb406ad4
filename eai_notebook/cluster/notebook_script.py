"""The shell script that runs a job's notebook: it passes signals on, and outlives them until the notebook ends."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Final

from eai_notebook.cluster.batch_system import OURS, STOP_FILE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eai_notebook.cluster.batch_system import BatchJob

NO_FOLDER: Final = 9
"""The exit code on a machine that does not have the notebook's folder."""


def go_to_folder(job: BatchJob, machine: str) -> str:
    """Return the line that enters the notebook's folder on a `machine`, such as a node."""
    said = shlex.quote(f"{OURS}there is no folder {job.work} {machine}")
    return f"cd {shlex.quote(str(job.work))} || {{ echo {said}; exit {NO_FOLDER}; }}"


def notebook_lines(job: BatchJob, leave_s: int, *, traps: Sequence[str] = ()) -> list[str]:
    """Return the lines that run the notebook; its exit code is then in ``$code``, its process in ``$notebook``.

    On SIGTERM the training is asked for a checkpoint, and `leave_s` seconds later the notebook is interrupted;
    ``traps`` are lines for other signals.
    """
    stop = shlex.quote(str(job.folder / STOP_FILE))
    return [
        "# The notebook with its kernel, which starts its group of ranks.",
        f"{shlex.join(job.command)} &",
        "notebook=$!",
        *traps,
        "# Cancelled or preempted: a checkpoint if there is time, then the notebook is interrupted.",
        f"trap ': >{stop}; (sleep {leave_s}; kill -TERM \"$notebook\") 2>/dev/null &' TERM",
        'wait "$notebook"',
        "code=$?",
        'while kill -0 "$notebook" 2>/dev/null; do wait "$notebook"; code=$?; done',
    ]
