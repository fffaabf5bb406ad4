"""Facts and findings: the input and the output of the verdict's rules."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Final

import numpy as np

from eai_notebook.ledger.arrays import Floats, mean
from eai_notebook.ledger.context import Context
from eai_notebook.ledger.formatting import ms
from eai_notebook.ledger.merge import Ledger, mean_parts
from eai_notebook.ledger.parts import TRANSFER
from eai_notebook.ledger.waiting import Waiting

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eai_notebook.ledger.stalls import Stalls

STANDS_OUT: Final = 0.03
"""A rank is named when it differs from the others by this share of a step at least."""


@dataclass(frozen=True)
class Finding:
    """One loss: `kind` names it, `share` is what of a step's wall time it costs.

    ``rank`` is the rank to look at, if it is one rank; ``cause`` the part of that rank's
    step that explains most of the loss, for ``kind`` ``"wait_peer"`` and ``"stalls"``.
    ``numbers`` are the milliseconds a step that the sentence and its evidence speak of.
    ``tries`` are remedies, the most promising first, and ``gain`` what a step would take
    without the loss; both are empty where there is nothing to remedy. The loss must cost ``times`` as
    much as others to be named.
    """

    kind: str
    sentence: str
    evidence: tuple[str, ...]
    share: float
    rank: int | None = None
    cause: str | None = None
    tries: tuple[str, ...] = ()
    gain: str = ""
    numbers: Mapping[str, float] = field(default_factory=dict)
    times: float = 1.0

    @property
    def advice(self) -> str:
        """The line below the sentence; empty where there is nothing to try."""
        if not self.tries:
            return ""
        return f"Try: {'; '.join(self.tries)}" + (f" ({self.gain})" if self.gain else "")


@dataclass(frozen=True)
class Facts:
    """The numbers of a run, in seconds: means over its typical steps, `Ledger.typical`.

    Every display and every rule of the verdict gets them here, so that a thing has one number.
    """

    ledger: Ledger
    context: Context = field(default_factory=Context)

    @cached_property
    def measured(self) -> Ledger:
        """The steps that were measured."""
        return self.ledger.measured()

    @cached_property
    def stalls(self) -> Stalls | None:
        """The steps that stall, if some do; a run's warm-up is not typical, but no stall."""
        found = self.ledger.stalls
        return None if found is None or found.warm_up else found

    @cached_property
    def typical(self) -> Ledger:
        """The typical steps."""
        return self.ledger.typical()

    @cached_property
    def waiting(self) -> Waiting | None:
        """Who waits for whom in the typical steps, where that is known."""
        return Waiting.of(self.measured, self.ledger.which_typical)

    @cached_property
    def by_rank(self) -> Floats:
        """The parts of each rank, ``[R, P]``; for each they add up to its mean step."""
        return mean_parts(self.typical, axis=1)

    @cached_property
    def named(self) -> Floats:
        """What of `other` has a name, by rank and kind, ``[R, K]`` in the order of `NAMED`."""
        steps = np.maximum(np.isfinite(self.typical.wall).sum(axis=1), 1)
        return np.asarray(np.nansum(self.typical.named, axis=1) / steps[:, None])

    @cached_property
    def parts(self) -> Floats:
        """The parts, means over steps and ranks, ``[P]``; they add up to `step`."""
        return mean_parts(self.typical, axis=(0, 1))

    @cached_property
    def step(self) -> float:
        """The wall time of a step, mean over ranks; NaN where no length is known."""
        return float(mean(self.ledger.timed().wall))

    @cached_property
    def bus_bandwidth(self) -> float:
        """The bytes that leave a rank over the exposed and the hidden time of the exchange, bytes/s."""
        ledger = self.ledger.timed()
        exchange = self.part(TRANSFER) + float(mean(ledger.hidden))
        known = len(ledger.ranks) > 1 and exchange > 0
        return float(mean(ledger.bytes)) / exchange if known else np.nan

    @cached_property
    def batch(self) -> float:
        """The samples in a rank's batch, mean over ranks; NaN where unknown."""
        return float(mean(self.ledger.timed().samples))

    def part(self, part: int) -> float:
        """Return the length of a part, mean over ranks."""
        return float(self.parts[part])

    def worst(self, part: int) -> int | None:
        """Return the index of the rank that loses most in a part, if it is that rank's loss.

        It is if the rank loses more than the others by at least half of what it loses: ranks that
        lose about the same have a reason in common, and chance alone makes one of them the worst.
        """
        return self.worst_of(self.by_rank[:, part])

    def worst_of(self, here: Floats) -> int | None:
        """Return the same for any loss by rank, ``[R]`` seconds a step."""
        if len(here) == 1 or not np.isfinite(here).all():
            return None
        worst = int(here.argmax())
        excess = here[worst] - np.delete(here, worst).mean()
        own = excess >= here[worst] / 2 and excess > STANDS_OUT * self.step
        return worst if own else None

    def samples(self) -> dict[int, float]:
        """Return the samples in each rank's batch, where they are known."""
        here = mean(self.typical.samples, axis=1)
        return {
            rank: float(number)
            for rank, number in zip(self.typical.ranks, here, strict=True)
            if np.isfinite(number)
        }

    def gain(self, lost: float) -> str:
        """Return in words what a step would take without `lost` of its seconds."""
        whole = self.step
        rest = max(whole - lost, 0.02 * whole)
        return f"without it: {ms(whole)} -> {ms(rest)}, {whole / rest:.3g}x"
