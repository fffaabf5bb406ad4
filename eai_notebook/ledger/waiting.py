"""Waiting for slower ranks: who causes how much of it, and by which part of the step.

All numbers are of one kind, mean seconds a step, so they can be added up: what each rank
causes adds up to all of the waiting, and the parts it comes from, with what is unexplained,
to what that rank causes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from eai_notebook.ledger.parts import OTHER, OWN, TABLE, UPDATE, WAIT_PEER

if TYPE_CHECKING:
    from eai_notebook.ledger.arrays import Bools, Floats, Ints
    from eai_notebook.ledger.merge import Ledger

FEWEST_STEPS: Final = 5
"""From fewer steps nothing is concluded."""

MATTERS: Final = 0.1
"""A step counts as one in which a rank makes the others wait from this share of what it
causes in a mean step on in which it is last."""


@dataclass(frozen=True)
class Waiting:
    """The waiting of a rank that is not the last, in mean seconds a step.

    ``caused[R]`` is by the rank that was waited for, and adds up to ``total``. ``sources[R, K]``
    is what of it comes from each of `parts.OWN`, ``unexplained[R]`` the rest. ``in_steps[R]``
    says in how many of the ``steps`` it was caused. ``culprit`` is the index of the rank that
    causes most of it, if it is one rank.
    """

    total: float
    caused: Floats
    sources: Floats
    in_steps: Ints
    steps: int
    culprit: int | None

    @classmethod
    def of(cls, ledger: Ledger, chosen: Bools | None = None) -> Waiting | None:
        """Return the waiting in the `chosen` steps whose last rank is known; None if too few.

        The other steps of `ledger` are looked at, too: what a rank does after the exchange
        makes it late in the next one.

        Examples:
            >>> from eai_notebook.ledger.merge import merge
            >>> from eai_notebook.ledger.step_schema import empty_steps
            >>> rows = {rank: empty_steps(5) for rank in (0, 1)}
            >>> for rank, own in rows.items():
            ...     own["begin"] = 100.0 * own["step"]
            ...     own["end"], own["input"], own["compute"] = own["begin"] + 9, 1, 2 + 4 * rank
            ...     own["ready"], own["reduced"] = own["begin"] + 3 + 4 * rank, own["begin"] + 8
            ...     own["update"] = 0.5
            >>> waiting = Waiting.of(merge(rows, {}))
            >>> waiting.total, waiting.culprit, waiting.sources[1].tolist()
            (4.0, 1, [0.0, 4.0, 0.0, 0.0])
        """
        count = len(ledger.ranks)
        known = (ledger.last_rank >= 0) & np.isfinite(ledger.parts[:, :, WAIT_PEER]).all(axis=0)
        if chosen is not None:
            known &= chosen
        steps = int(known.sum())
        if count == 1 or steps < FEWEST_STEPS:
            return None
        last = np.where(known, np.searchsorted(ledger.ranks, ledger.last_rank), 0)
        # The last rank waits for nobody: the mean is over the others.
        waited = np.where(known, ledger.parts[:, :, WAIT_PEER], 0.0).sum(axis=0) / (count - 1)
        by_source = np.where(known[:, None], _explained(ledger, last, waited), 0.0)
        caused = np.bincount(last, weights=waited, minlength=count) / steps
        sources = np.stack(
            [np.bincount(last, weights=each, minlength=count) for each in by_source.T], axis=1
        )
        times_last = np.bincount(last[known], minlength=count)
        least = MATTERS * caused * steps / np.maximum(times_last, 1)
        matters = known & (waited > 0) & (waited >= least[last])
        in_steps = np.bincount(last[matters], minlength=count)
        most = int(caused.argmax())
        total = float(caused.sum())
        # With two ranks chance alone books half of the waiting to each.
        is_one = caused[most] > (1 + 1 / count) / 2 * max(total, 1e-12)
        return cls(total, caused, sources / steps, in_steps, steps, most if is_one else None)

    @property
    def unexplained(self) -> Floats:
        """What of each rank's waiting comes from none of its parts."""
        return np.asarray(np.maximum(self.caused - self.sources.sum(axis=1), 0.0))

    def of_culprit(self) -> tuple[float, Floats, float]:
        """Return the waiting that is spoken of, its sources and the rest of it.

        It is what the culprit causes, or all of it where it is no one's doing.
        """
        if self.culprit is None:
            return self.total, self.sources.sum(axis=0), float(self.unexplained.sum())
        which = self.culprit
        return float(self.caused[which]), self.sources[which], float(self.unexplained[which])

    def cause(self) -> int | None:
        """Return the part that explains at least half of the waiting; None if none does."""
        waited, sources, _ = self.of_culprit()
        largest = int(sources.argmax())
        return OWN[largest] if waited > 0 and sources[largest] >= waited / 2 else None


def _explained(ledger: Ledger, last: Ints, waited: Floats) -> Floats:
    """Return for each step what of its waiting comes from each of `parts.OWN`, ``[S, K]``.

    All ranks leave the exchange before together. What the last one does from then on longer
    than the others, part by part, is what it is late by: `update` and the end of the step
    before, then the begin of this one, its input and its computing. Parts in which it is
    quicker do not count, so the rest is scaled to the waiting where it is more.
    """
    at = np.arange(len(ledger.steps))
    before = np.where(np.diff(ledger.steps, prepend=-2) == 1, at - 1, at)
    # Where the step before was not measured this one stands for it.
    before = np.where(np.isfinite(ledger.parts[:, before, UPDATE]).all(axis=0), before, at)
    other = ledger.parts[:, :, OTHER]
    ahead = np.where(np.isfinite(ledger.ahead), ledger.ahead, other)

    def length_of(part: int) -> Floats:
        if part == OTHER:
            return np.asarray(ahead + (other - ahead)[:, before])
        return ledger.parts[:, before if TABLE[part].after_exchange else at, part]

    count = len(ledger.ranks)
    excess = np.zeros((len(at), len(OWN)))
    for index, length in enumerate(map(length_of, OWN)):
        late = length[last, at]
        longer = late - (length.sum(axis=0) - late) / (count - 1)
        excess[:, index] = np.maximum(np.nan_to_num(longer), 0.0)
    total = excess.sum(axis=1)
    scale = np.where(total > waited, waited / np.maximum(total, 1e-300), 1.0)
    return np.asarray(excess * scale[:, None])
