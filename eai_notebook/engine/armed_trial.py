"""Arm a trial on this rank; the training side is loaded only when one is asked for."""

from __future__ import annotations

from typing import Any


def arm(change: dict[str, Any]) -> None:
    """Have this rank's next training try a change, the fields of a `step_trial.Change`."""
    from eai_notebook.train.trials import step_trial

    step_trial.arm(change)
