"""Between two steps: what tunes the steps now, and whether the user wants a change tried.

A change may be asked for while a training goes on. All ranks must begin to try it at the same step, so
they ask each other now and then whether one was.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

from eai_notebook.train.periodic_agreement import PeriodicAgreement
from eai_notebook.train.trials import step_trial

if TYPE_CHECKING:
    from collections.abc import Callable

    from eai_notebook.train.trials.step_trial import StepTrial

EVERY_S: Final = 5.0
"""Seconds between two exchanges: each takes a millisecond or two."""

FIRST: Final = 20
"""Steps before the first one."""


class Tuner(Protocol):
    """Changes a setting between steps."""

    def before_step(self) -> bool:
        """Return whether what was done before this step took time that belongs to no step."""
        ...


class TrialWatch:
    """Calls what tunes the steps of one training, and begins a trial that is asked for meanwhile.

    All ranks must call it before the same steps.

    Args:
        tuner: What tunes them from the first step on, if anything does.
        begin: Returns the trial that is armed; all ranks call it.
        every_s: Seconds between two exchanges.
    """

    def __init__(
        self,
        tuner: Tuner | StepTrial | None,
        begin: Callable[[], StepTrial | None],
        every_s: Callable[[], float] = lambda: EVERY_S,
    ) -> None:
        self._tuner = tuner
        self._begin = begin
        self._agreement = PeriodicAgreement(step_trial.is_armed, every_s, FIRST)

    def before_step(self) -> bool:
        """Tune, or see whether a trial is to begin; return whether that took a step's time."""
        if self._tuner is not None:
            if not _is_over(self._tuner):
                return self._tuner.before_step()
            self._tuner = None
        # A look costs the step that follows it: it is no time that nobody sees.
        if not self._agreement.is_due():
            return False
        self._tuner = self._begin()
        return True

    def end(self) -> None:
        """End with the training a trial that is still going on."""
        if isinstance(self._tuner, step_trial.StepTrial):
            self._tuner.end()


def _is_over(tuner: Any) -> bool:
    """Return whether a trial has an outcome, or sizes were chosen."""
    return any(getattr(tuner, name, None) is not None for name in ("outcome", "chosen"))
