"""Facts and findings: the input and the output of the verdict's rules."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Final

import numpy as np

from eai_notebook.ledger.context import Context
from eai_notebook.ledger.formatting import ms
from eai_notebook.ledger.merge import Bools, Floats, Ledger, mean, mean_parts
from eai_notebook.ledger.stalls import Stalls
from eai_notebook.ledger.waiting import Waiting

if TYPE_CHECKING:
    from collections.abc import Mapping

STANDS_OUT: Final = 0.03
"""A rank is named when it differs from the middle rank by this share of a step."""


@dataclass(frozen=True)
class Finding:
    """One loss: `kind` names it, `share` is what of a step's wall time it costs.

    ``rank`` is the rank to look at, if it is one rank; ``cause`` the part of that rank's
    step that explains most of the loss, for ``kind`` ``"wait_peer"`` and ``"stalls"``.
    ``numbers`` are the milliseconds a step that the sentence and its evidence speak of.
    ``tries`` are remedies, the most promising first, and ``gain`` what a step would take
    without the loss; both are empty where there is nothing to remedy.
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

    @property
    def advice(self) -> str:
        """The line below the sentence; empty where there is nothing to try."""
        if not self.tries:
            return ""
        return f"Try: {'; '.join(self.tries)}" + (f" ({self.gain})" if self.gain else "")


@dataclass(frozen=True)
class Facts:
    """What the rules look at: means over the usual steps, in seconds, and what else is known.

    Usual are the typical steps, `Ledger.typical`, and if steps stall, all that do not.
    """

    ledger: Ledger
    context: Context = field(default_factory=Context)

    @cached_property
    def measured(self) -> Ledger:
        """The steps that were measured."""
        return self.ledger.measured()

    @cached_property
    def stalls(self) -> Stalls | None:
        """The steps that stall, if some do."""
        return Stalls.of(self.measured)

    @cached_property
    def _chosen(self) -> Bools:
        """Which of the measured steps are usual."""
        if self.stalls is not None:
            return np.asarray(~self.stalls.which)
        return np.asarray(np.isin(self.measured.steps, self.ledger.typical().steps))

    @cached_property
    def typical(self) -> Ledger:
        """The usual steps."""
        return self.measured if self._chosen.all() else self.measured.select(self._chosen)

    @cached_property
    def waiting(self) -> Waiting | None:
        """Who waits for whom in the usual steps, where that is known."""
        return Waiting.of(self.measured, self._chosen)

    @cached_property
    def by_rank(self) -> Floats:
        """The parts of each rank, ``[R, P]``."""
        return mean_parts(self.typical, axis=1)

    @cached_property
    def step(self) -> float:
        """The wall time of a step, mean over ranks."""
        return float(mean(self.typical.wall))

    @cached_property
    def lacks_cores(self) -> bool:
        """Whether other processes have the ranks' processors."""
        return self.context.shortage() is not None

    def part(self, part: int) -> float:
        """Return the length of a part, mean over ranks."""
        return float(mean(self.by_rank[:, part]))

    def worst(self, part: int) -> int | None:
        """Return the place of the rank that loses most in a part, if one stands out."""
        here = self.by_rank[:, part]
        if len(here) == 1 or not np.isfinite(here).all():
            return None
        worst = int(here.argmax())
        stands_out = here[worst] - np.median(here) > STANDS_OUT * self.step
        return worst if stands_out else None

    def samples(self) -> dict[int, float]:
        """Return the samples in each rank's batch, where they are known."""
        here = mean(self.typical.samples, axis=1)
        return {
            rank: float(number)
            for rank, number in zip(self.typical.ranks, here, strict=True)
            if np.isfinite(number)
        }

    def gain(self, lost: float, step: float | None = None) -> str:
        """Return in words what a step would take without `lost` of its seconds."""
        whole = self.step if step is None else step
        rest = max(whole - lost, 0.02 * whole)
        return f"without it: {ms(whole)} -> {ms(rest)}, {whole / rest:.3g}x"
