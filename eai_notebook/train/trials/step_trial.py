"""A trial on real steps: blocks with and without a change, in the order ABBA, compared as they come.

A machine drifts, so a block is compared with its neighbours only: the two outer blocks of four
against the two inner ones, which leaves out any steady drift. All ranks count the same
steps and agree on what the slowest of them took, so they decide alike without asking a leader.
"""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from eai_notebook import collective
from eai_notebook.bookkeeping import say
from eai_notebook.ledger.trial_outcome import Outcome
from eai_notebook.train.trials import knobs
from eai_notebook.train.trials.always_valid import interval

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from eai_notebook.train.trials.knobs import Knob

WARM_UP: Final = 10
"""Steps of a run before its trial begins."""

BLOCK: Final = 6
"""Steps of a block that are counted."""

FEWEST: Final = 4
"""Differences before anything is decided."""

MOST: Final = 40
"""Differences after which a trial ends undecided."""

WORTH: Final = 0.01
"""A gain below this share of a step is none: the trial ends when no more is possible."""


@dataclass(frozen=True)
class Change:
    """What is to be tried: a knob and its value; and what is expected of it, seconds a step."""

    knob: str
    value: int
    words: str
    expected: float
    low: float
    high: float

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Change:
        """Return the change that `asdict` has taken apart."""
        return cls(**fields)


class StepTrial:
    """Switches a knob between its value and another one, and keeps what is better.

    Args:
        change: What to try.
        knob: The setting itself.
        report: Gets the outcome, once.
        agree: Returns the slowest rank's numbers of all ranks' ``[4]``.
        clock: Seconds.
    """

    def __init__(
        self,
        change: Change,
        knob: Knob,
        report: Callable[[Outcome], None],
        agree: Callable[[np.ndarray], np.ndarray] | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._change, self._knob, self._report = change, knob, report
        self._agree = agree or (lambda times: collective.allreduce_numpy(times, largest=True))
        self._clock = clock
        self._before = knob.get()
        self._step = -WARM_UP
        self._began = 0.0
        self._taken: list[float] = []
        self._blocks: list[float] = []
        self._plain: list[float] = []
        self._differences: list[float] = []
        self.outcome: Outcome | None = None

    def before_step(self) -> bool:
        """Note the last step, and switch when it is time.

        Returns whether that took time that belongs to no step.
        """
        if self.outcome is not None:
            return False
        now = self._clock()
        whole = BLOCK + self._knob.settles_in
        busy = False
        if self._step > 0:
            # Steps right after a change still have the old setting's batches or connections.
            if (self._step - 1) % whole >= self._knob.settles_in:
                self._taken.append(now - self._began)
            if self._step % whole == 0:
                busy = self._end_block()
        self._step += 1
        self._began = self._clock()
        return busy

    def end(self) -> None:
        """End the trial with the training: what is undecided is put back."""
        if self.outcome is None:
            self._decide("undecided")

    def _end_block(self) -> bool:
        # The longest step of a block is more often another program's doing than the knob's.
        self._blocks.append(float(np.mean(np.sort(self._taken)[:-1])))
        self._taken = []
        if len(self._blocks) == 4:  # noqa: PLR2004 -- A B B A
            first, second, third, fourth = self._agree(np.asarray(self._blocks)).tolist()
            self._blocks = []
            self._plain += [first, fourth]
            self._differences.append((first + fourth - second - third) / 2)
            if decision := self._decision():
                self._decide(decision)
                return True
        self._use(len(self._blocks) in (1, 2))
        return True

    def _use(self, changed: bool) -> None:  # noqa: FBT001 -- which of two values
        self._knob.set(self._change.value if changed else self._before)

    def _decision(self) -> str:
        """Return what to do about the change; empty to go on."""
        if len(self._differences) < FEWEST:
            return ""
        low, high = interval(self._differences)
        if low > 0:
            return "kept"
        if high < WORTH * float(np.mean(self._plain)):
            return "put back"
        return "undecided" if len(self._differences) >= MOST else ""

    def _decide(self, decision: str) -> None:
        kept = decision == "kept"
        self._use(kept)
        if not kept:
            self._knob.release()
        low, high = interval(self._differences)
        gained = float(np.mean(self._differences)) if self._differences else 0.0
        change = self._change
        self.outcome = Outcome(
            change.words,
            decision,
            expected_ms=1e3 * change.expected,
            measured_ms=1e3 * gained,
            low_ms=1e3 * low,
            high_ms=1e3 * high,
            before=self._before,
            value=change.value,
            differences=len(self._differences),
        )
        self._report(self.outcome)


_ENDLESS: Final = (-math.inf, math.inf)
"""JSON has no such numbers."""

_armed: dict[str, Any] | None = None


def arm(fields: dict[str, Any]) -> None:
    """Have the training of this rank, or the next one, try a change, `asdict` of a `Change`."""
    global _armed
    _armed = fields


def is_armed() -> bool:
    """Return whether this rank was asked to try a change."""
    return _armed is not None


def of_armed(data: Any, note: Callable[..., None]) -> StepTrial | None:
    """Return the trial that is armed, if one is; all ranks call it before the same step.

    Rank 0's change counts. ``data`` is the input, ``note`` writes into the run's record. The trial
    is dropped, and the record says so, where a rank has no such knob, or has that value already.
    """
    global _armed
    mine, _armed = _armed, None
    fields = collective.broadcast_object(mine) if collective.size() > 1 else mine
    if fields is None:
        return None
    change = Change.of(fields)
    knob = knobs.find(change.knob, data)
    lacks = knob is None or knob.get() == change.value
    missing = collective.allreduce_numpy(np.asarray([float(lacks)]), largest=True)[0] > 0

    def report(outcome: Outcome) -> None:
        fields = asdict(outcome)
        note(trial={name: None if value in _ENDLESS else value for name, value in fields.items()})
        if collective.rank() == 0:
            say(outcome.to_text())

    if missing or knob is None:
        if collective.rank() == 0:
            say(f"{change.words}: not tried, this training has no `{change.knob}` to change")
        return None
    return StepTrial(change, knob, report)
