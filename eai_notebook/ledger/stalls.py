"""Stalls: few steps that take much longer than the others, and hold much of the time.

A mean over all steps would say that each is a little slow, a median that nothing is wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from eai_notebook.ledger.arrays import Bools, Floats, Ints, mean
from eai_notebook.ledger.parts import OTHER, OWN, TRANSFER, WAIT_PEER

FEWEST: Final = 3
"""One or two long steps are an accident, and are left out of what is typical anyway."""

SELDOM: Final = 1 / 8
"""Of the steps at most; what stalls more often is how the steps are."""

LONG: Final = 0.5
"""A step stalls when a rank spends this share of a usual step more on itself than usually."""

LEAST: Final = 0.1
"""And this share of what the longest stalls take."""

LEAST_LOST: Final = 0.05
"""Together they take this share of the time at least; what takes less is noise."""

WARM_UP: Final = 10
"""Long steps that are all among so many first ones of a run are its warm-up, and no stalls."""

_LOOKED_AT: Final = (*OWN, TRANSFER)


@dataclass(frozen=True)
class Stalls:
    """The steps that stall (``which[S]``), and what they cost.

    ``affected[S]`` are these and the next ones where ranks wait for one that stalled after its exchange.
    ``lost`` is what they add to a step, spread over all, ``length`` what each stall costs, in seconds.
    ``part`` is the part that is longer in them, ``rank`` the index of the rank where it is,
    None if it is so on all. ``usual`` is the mean length of the other steps.
    """

    which: Bools
    affected: Bools
    lost: float
    length: float
    usual: float
    part: int
    rank: int | None
    warm_up: bool = False
    """Whether they are the first steps of a run, and nothing is wrong."""

    @classmethod
    def of(cls, parts: Floats, walls: Floats, steps: Ints) -> Stalls | None:
        """Return the stalls among measured steps; None if there are none.

        Args:
            parts: ``[R, S, P]`` seconds, in the order of `PARTS`.
            walls: ``[R, S]`` seconds.
            steps: ``[S]``, the steps' numbers.

        Examples:
            >>> from eai_notebook.ledger.parts import PARTS
            >>> steps = np.arange(100)
            >>> parts = np.zeros((1, 100, len(PARTS)))
            >>> parts[0, :, PARTS.index("input")] = 0.001 + 1.0 * (steps % 20 == 7)
            >>> parts[0, :, PARTS.index("compute")] = 0.010
            >>> stalls = Stalls.of(parts, parts.sum(axis=2), steps)
            >>> int(stalls.which.sum()), stalls.part, round(stalls.lost, 3)
            (5, 0, 0.05)
        """
        if len(steps) < FEWEST / SELDOM:
            return None
        own = np.nan_to_num(parts[:, :, _LOOKED_AT])
        wall = mean(walls, axis=0)
        usual_step = float(np.median(wall))
        excess = own - np.median(own, axis=1, keepdims=True)
        # All ranks move their gradients together: the shortest says how long that took.
        excess[:, :, -1] = excess[:, :, -1].min(axis=0)
        longer = excess.sum(axis=2)
        worst = longer.max(axis=0)
        # The long ones count, not what a restless machine does beside them.
        which = worst > max(LONG * usual_step, LEAST * float(np.sort(worst)[-FEWEST]))
        count = int(which.sum())
        if not FEWEST <= count <= SELDOM * len(steps):
            return None
        by_rank = np.maximum(longer[:, which], 0.0).sum(axis=1)
        most = int(by_rank.argmax())
        others = np.delete(by_rank, most)
        is_one = len(parts) > 1 and by_rank[most] > 2 * others.max(initial=0.0)
        at = slice(most, most + 1) if is_one else slice(None)
        part = _LOOKED_AT[int(excess[at][:, which].sum(axis=(0, 1)).argmax())]
        waited = np.nan_to_num(parts[:, :, WAIT_PEER]).max(axis=0)
        after = np.concatenate([[False], which[:-1] & (np.diff(steps) == 1)])
        affected = which | (after & (waited > LONG * usual_step))
        usual = float(mean(wall[~affected]))
        lost = float(mean(wall)) - usual
        if lost < LEAST_LOST * float(mean(wall)):
            return None
        return cls(
            which=which,
            affected=affected,
            lost=lost,
            length=lost * len(steps) / count,
            usual=usual,
            part=part,
            rank=most if is_one and part != TRANSFER else None,
            warm_up=bool(steps[which].max() < WARM_UP),
        )

    def own_kind(self, named: Floats, parts: Floats) -> int | None:
        """Return the index in `NAMED` of what most of `other` is in the stalls; None if nameless."""
        at = slice(None) if self.rank is None else slice(self.rank, self.rank + 1)
        return largest_kind(named[at][:, self.which], parts[at][:, self.which, OTHER])


def largest_kind(named: Floats, other: Floats) -> int | None:
    """Return which kind of `NAMED` holds at least half of `other`; None if none does.

    ``named`` is ``[R, S, K]``, ``other`` ``[R, S]``, in seconds.
    """
    sums = np.nansum(named, axis=(0, 1))
    whole = float(np.nansum(other))
    if not len(sums) or not whole > 0 or sums.max() < whole / 2:
        return None
    return int(sums.argmax())
