"""Take the digest of a variable beside a running cell: at the end of a step that all ranks take.

Ranks that train are never at the same moment of their program when they are looked at from
outside; at the end of the same step they have made the same updates.
"""

from __future__ import annotations

import threading

from eai_notebook.engine import variable_digest
from eai_notebook.telemetry import messages
from eai_notebook.telemetry.messages import VariableDigested


class StepDigest:
    """What this rank compares with the others, once it was asked to."""

    def __init__(self, rank: int) -> None:
        self._rank = rank
        self._asked: tuple[int, str, int] | None = None  # the request, the variable, the step

    def ask(self, number: int, name: str, step: int | None) -> None:
        """Take the digest of `name` after `step` steps, or now without one, and send it."""
        if step is None:
            # The control channel must go on: a large model takes a moment.
            threading.Thread(target=self._take, args=(number, name, None), daemon=True).start()
            return
        self._asked = number, name, step
        messages.add_step_listener(self._step_ended)

    def _step_ended(self, _run: str, step: int | None) -> bool:
        """Take it at this edge between two steps, if it is time, or if the run ends before."""
        if self._asked is None:
            return False
        number, name, wanted = self._asked
        if step is not None and step + 1 < wanted:
            return False
        self._asked = None
        messages.remove_step_listener(self._step_ended)
        self._take(number, name, -1 if step is None else step + 1)
        return True

    def _take(self, number: int, name: str, taken: int | None) -> None:
        parts, error = [], ""
        try:
            parts = variable_digest.digest(name)
        except NameError:
            error = f"there is no variable {name}"
        except Exception as failure:  # noqa: BLE001  # the user's own class may raise anything
            error = f"{name} cannot be compared ({type(failure).__name__}: {failure})"
        messages.emit(VariableDigested(self._rank, number, name, taken, parts, error))
