"""`PeriodicAgreement`: all ranks find out at the same step that one of them was asked for something.

A request reaches each rank at another moment, and a rank that acted on it alone would leave the others
waiting. So all ranks ask each other now and then, by one small exchange.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import numpy as np

from eai_notebook import collective

if TYPE_CHECKING:
    from collections.abc import Callable

GROWTH: Final = 8
"""The number of steps between two exchanges grows by this at most."""


class PeriodicAgreement:
    """Counts the steps of one training on this rank; all ranks must call it in the same steps.

    Args:
        is_asked: Returns whether this rank was asked.
        every_s: About the seconds between two exchanges, on the rank that wants the shortest time.
        first: Steps before the first exchange; the same on all ranks.
    """

    def __init__(
        self, is_asked: Callable[[], bool], every_s: Callable[[], float], first: int = 1
    ) -> None:
        self._is_asked = is_asked
        self._every_s = every_s
        self._every = self._left = first
        self._asked_at = time.monotonic()

    def is_due(self) -> bool:
        """Return, before a step, whether some rank was asked; the same on all ranks."""
        self._left -= 1
        return self._left <= 0 and self.is_wanted()

    def is_wanted(self) -> bool:
        """Ask all ranks now."""
        now = time.monotonic()
        seconds = max((now - self._asked_at) / self._every, 1e-6)
        wanted = max(1, min(GROWTH * self._every, round(self._every_s() / seconds)))
        self._asked_at = now
        asked = self._is_asked()
        if collective.size() > 1:
            # The largest of both: whether one was asked, and the least number of steps.
            found = collective.allreduce_numpy(np.array([int(asked), -wanted]), largest=True)
            asked, wanted = bool(found[0]), -int(found[1])
        self._every = self._left = wanted
        return asked
