"""How far the trainings of a job have come: the positions that their checkpoints go on from.

A job that is queued again should begin further on each time. Rank 0 notes each checkpoint in the job's
folder, and the job's next start compares. The file outlives ranks, kernel and node.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Final

from eai_notebook.bookkeeping import PROGRESS
from eai_notebook.telemetry import messages

JOB_FOLDER: Final = "EAI_JOB_FOLDER"
"""The variable that names the folder of the job that a kernel or a rank belongs to."""
_FILE: Final = "progress.json"

Positions = dict[str, list[int]]
"""Epoch and step, counted from 0, by the folder of a training's checkpoints."""


def note(checkpoints: Path, epoch: int, step: int) -> None:
    """Note that a training would go on at `step` of `epoch`; only the furthest is kept.

    Without a job, or on a host that does not have its folder, nothing is noted.
    """
    folder = Path(os.environ.get(JOB_FOLDER, ""))
    if JOB_FOLDER not in os.environ or not folder.is_dir():
        return
    with messages.books.doing(PROGRESS, folder):
        known = furthest(folder)
        name = str(checkpoints.absolute())
        known[name] = max(known.get(name, [0, 0]), [epoch, step])
        new = folder / f".{_FILE}.part"
        new.write_text(json.dumps(known))
        new.replace(folder / _FILE)


def furthest(folder: Path) -> Positions:
    """Return the furthest positions that were noted in a job's folder."""
    try:
        found: Positions = json.loads((folder / _FILE).read_text())
    except (OSError, ValueError):
        return {}
    return found
