"""`StopAgreement`: all ranks find out at the same step that one of them was asked to stop.

A request reaches each rank at another moment, and a rank that left the training alone would leave the
others waiting. So all ranks ask each other, about once a second, by one small exchange.
"""

from __future__ import annotations

import time
from typing import Final

import numpy as np

from eai_notebook import collective
from eai_notebook.telemetry import stop_request

EVERY_S: Final = 1.0
GROWTH: Final = 8
"""The number of steps between two exchanges grows by this at most, from one at a training's start."""


class StopAgreement:
    """Counts the steps of one training on this rank; all ranks must call it in the same steps."""

    def __init__(self) -> None:
        self._every = 1
        self._left = 1
        self._asked_at = time.monotonic()

    def is_due(self) -> bool:
        """Return, before a step, whether the training is to stop here; the same on all ranks."""
        self._left -= 1
        return self._left <= 0 and self.is_wanted()

    def is_wanted(self) -> bool:
        """Ask all ranks now."""
        now = time.monotonic()
        seconds = max((now - self._asked_at) / self._every, 1e-6)
        wanted = max(1, min(GROWTH * self._every, round(EVERY_S / seconds)))
        self._asked_at = now
        if collective.size() > 1:
            asked = stop_request.is_asked()
            # The largest of both: whether one was asked, and the least number of steps.
            found = collective.allreduce_numpy(np.array([int(asked), -wanted]), largest=True)
            asked, wanted = bool(found[0]), -int(found[1])
        else:
            asked = stop_request.is_asked()
        self._every = self._left = wanted
        return asked
