"""`RequeueGuard`: ends a job that is queued again and again without coming further.

Its cells run again from the top, so what a start has gained is what its checkpoints hold. Each start compares
the positions that they go on from with those that the start before it had found.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Final

from eai_notebook.errors import EaiError
from eai_notebook.files import write_private
from eai_notebook.telemetry import training_progress

if TYPE_CHECKING:
    from pathlib import Path

STOPS: Final = 2
"""So many stops before the time limit (or lost machines), one after the other and none further than the one
before, end the job: the next one would do the same."""
STARTS: Final = 10
"""So many starts without progress end a job that the batch system itself queues again. More, since
preemption is chance, and a program may keep its state in a way that is not known here."""
_FILE: Final = "starts.json"


@dataclass
class _Starts:
    count: int = 0
    idle: int = 0
    """Starts one after the other that came no further."""
    stops: int = 0
    """Of these, those that were stopped before the time limit."""
    at: training_progress.Positions = field(default_factory=dict)
    """The positions that this start found."""


class RequeueGuard:
    """Follows one start of the job in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            self._known = _Starts(**json.loads((folder / _FILE).read_text()))
        except (OSError, ValueError, TypeError):
            self._known = _Starts()

    def begin(self) -> None:
        """Note a start.

        Raises:
            EaiError: Too many starts one after the other have made no progress.
        """
        known = self._known
        if known.count and self._is_further():
            known.idle = known.stops = 0
        elif known.count:
            known.idle += 1
        known.count += 1
        known.at = training_progress.furthest(self._folder)
        self._write()
        if known.idle >= STARTS:
            raise EaiError(
                f"the job was started {known.count - 1} times, and the last {known.idle} starts made no "
                f"progress: {self._position()}",
                "see in output.log why it was queued again; a checkpoint with every_steps comes earlier",
                code="job-no-progress",
            )

    @property
    def restarts(self) -> int:
        """How often the job was started before this start."""
        return self._known.count - 1

    def stopped(self) -> None:
        """Note that the training was stopped before a time limit, or lost a machine, to be started again.

        Raises:
            EaiError: This happened before, and nothing was gained since.
        """
        known = self._known
        known.stops = 0 if self._is_further() else known.stops + 1
        self._write()
        if known.stops >= STOPS:
            raise EaiError(
                f"the job makes no progress: it was stopped {known.stops} times one after the other "
                f"without coming further; {self._position()}",
                "raise --time; read the data by eai.io, which goes on within an epoch; or see in output.log "
                "why machines are lost",
                code="job-no-progress",
            )

    def _is_further(self) -> bool:
        now = training_progress.furthest(self._folder)
        return any(at > self._known.at.get(name, [0, 0]) for name, at in now.items())

    def _position(self) -> str:
        """Return where the job stands, in a few words."""
        at = [
            f"{name} goes on from epoch {epoch + 1}, step {step}"
            for name, (epoch, step) in training_progress.furthest(self._folder).items()
        ]
        return "; ".join(at) or "there is no checkpoint"

    def _write(self) -> None:
        write_private(self._folder / _FILE, json.dumps(asdict(self._known)))
