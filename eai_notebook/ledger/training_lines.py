"""``training.jsonl`` of a run record: what ranks reported of their training, a JSON line each."""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict

from eai_notebook.telemetry.messages import TrainingProgress


def to_line(progress: TrainingProgress) -> str:
    """Return a message as a line of the record's ``training.jsonl``."""
    fields = asdict(progress)
    del fields["run"]
    return json.dumps(fields) + "\n"


def from_lines(run: str, text: str) -> list[TrainingProgress]:
    """Read whole lines of ``training.jsonl``; a damaged line is left out."""
    found = []
    for line in text.splitlines():
        with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raw = json.loads(line)
            values = {str(name): float(value) for name, value in raw["values"].items()}
            rank, step, epoch = int(raw["rank"]), int(raw["step"]), int(raw["epoch"])
            whole = bool(raw.get("whole"))
            found.append(TrainingProgress(run, rank, step, epoch, values, whole=whole))
    return found
