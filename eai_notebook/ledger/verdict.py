"""The verdict: the largest avoidable loss in one sentence, with its evidence.

Each rule looks for one kind of loss and returns a finding or nothing; it abstains where
what it needs was not measured. The verdict is the costliest finding, and if none costs
enough to be worth a change, the good one: the steps compute.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Final

import numpy as np

from eai_notebook.ledger.formatting import ms, percent, span
from eai_notebook.ledger.merge import (
    COMPUTE,
    INPUT,
    OTHER,
    TRANSFER,
    UPDATE,
    WAIT_PEER,
    Floats,
    Ledger,
    mean,
)
from eai_notebook.ledger.step_schema import PARTS
from eai_notebook.telemetry import input_waits

if TYPE_CHECKING:
    from collections.abc import Mapping

WORTH_NAMING: Final = 0.15
"""A loss is named when it costs at least this share of a step."""

FEWEST_STEPS: Final = 5
"""Below this many measured steps a verdict would be a guess."""

BOUND: Final = 0.5
"""From this share on, a part rules the step: the step is bound by it."""


@dataclass(frozen=True)
class Finding:
    """One loss: `kind` names it, `share` is what of a step's wall time it costs.

    ``rank`` is the rank to look at, if it is one rank; ``cause`` the part of that rank's
    step that is longer than on the others, for ``kind == "wait_peer"``.
    """

    kind: str
    sentence: str
    evidence: tuple[str, ...]
    share: float
    rank: int | None = None
    cause: str | None = None


class Verdict(Finding):
    """The finding that matters most."""


@dataclass(frozen=True)
class Facts:
    """What the rules look at: means over the typical steps, in seconds."""

    ledger: Ledger

    @cached_property
    def typical(self) -> Ledger:
        """The steps that the verdict is about."""
        return self.ledger.typical()

    @cached_property
    def by_rank(self) -> Floats:
        """The parts of each rank, ``[R, 6]``."""
        return mean(self.typical.parts, axis=1)

    @cached_property
    def step(self) -> float:
        """The wall time of a step, mean over ranks."""
        return float(mean(self.typical.wall))

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


STANDS_OUT: Final = 0.03
"""A rank is named when it differs from the middle rank by this share of a step."""


class Rule(ABC):
    """Looks for one kind of loss."""

    @abstractmethod
    def __call__(self, facts: Facts) -> Finding | None:
        """Return what was found, or None if nothing was or it cannot be known."""


@dataclass(frozen=True)
class PartIsLong(Rule):
    """A part takes a large share of the step on the ranks together."""

    part: int
    label: str
    does: str

    def __call__(self, facts: Facts) -> Finding | None:
        """Name the part if it costs enough, and the rank where it is worst."""
        length = facts.part(self.part)
        if not length >= WORTH_NAMING * facts.step:
            return None
        share = length / facts.step
        # Ranks move gradients together: there is no rank to blame for how long that takes.
        worst = None if self.part == TRANSFER else facts.worst(self.part)
        aside = ""
        if worst is not None:
            own = facts.by_rank[worst, self.part] / facts.step
            aside = f" (rank {facts.typical.ranks[worst]} worst, {percent(own)})"
        spent = f"{percent(share)} of each step {self.does}{aside}"
        kind = PARTS[self.part]
        # Half of the step or more: the part rules it. Less: it is the largest loss.
        said = f"{self.label}-bound: {spent}" if share >= BOUND else f"{kind} costs most: {spent}"
        return Finding(
            kind=kind,
            sentence=said,
            evidence=(f"`{kind}` {ms(length)} of a {ms(facts.step)} step", *_rates(self, facts)),
            share=share,
            rank=None if worst is None else facts.typical.ranks[worst],
        )


@dataclass(frozen=True)
class PeerIsLate(Rule):
    """Ranks wait for a slower one: say which, and which part of its step is longer."""

    def __call__(self, facts: Facts) -> Finding | None:
        """Name the late rank if most of the waiting was for it."""
        lateness = Lateness.of(facts.typical)
        if lateness is None or not lateness.wait >= WORTH_NAMING * facts.step:
            return None
        share = lateness.wait / facts.step
        cause = PARTS[lateness.cause]
        ranks = facts.typical.ranks
        if lateness.culprit is None:
            sentence = (
                f"ranks wait for each other: whoever is not last waits {percent(share)} of each "
                f"step, and no one rank is always last; its `{cause}` part is then "
                f"{ms(lateness.excess)} longer"
            )
            rank = None
        else:
            rank = ranks[lateness.culprit]
            others = [r for r in ranks if r != rank]
            wait = "waits" if len(others) == 1 else "wait"
            sentence = (
                f"waiting for rank {rank}: {span(others)} {wait} {ms(lateness.wait)} a step "
                f"because its `{cause}` part is {ms(lateness.excess)} longer"
            )
        return Finding(
            kind="wait_peer",
            sentence=sentence,
            evidence=(
                f"waiting {ms(lateness.wait)} of a {ms(facts.step)} step",
                lateness.tally(ranks),
            ),
            share=share,
            rank=rank,
            cause=cause,
        )


@dataclass(frozen=True)
class Lateness:
    """How long the others wait, seconds a step, and for whom.

    ``culprit`` is the place of the rank that most waiting is booked to, if it is one;
    ``cause`` the part of the late rank's step that is ``excess`` seconds longer than on
    the others; ``last_in`` is how often each rank came last, as a share of the steps.
    """

    wait: float
    culprit: int | None
    cause: int
    excess: float
    last_in: tuple[float, ...]

    @classmethod
    def of(cls, ledger: Ledger) -> Lateness | None:
        """Return the lateness over the steps whose last rank is known, or None."""
        known = (ledger.last_rank >= 0) & np.isfinite(ledger.parts[:, :, WAIT_PEER]).all(axis=0)
        count = len(ledger.ranks)
        if count == 1 or known.sum() < FEWEST_STEPS:
            return None
        last = np.searchsorted(ledger.ranks, ledger.last_rank)
        # The last rank itself waits for nobody: the mean is over the others.
        wait = np.where(known, ledger.parts[:, :, WAIT_PEER].sum(axis=0) / (count - 1), 0.0)
        booked = np.bincount(last[known], weights=wait[known], minlength=count)
        times_last = np.bincount(last[known], minlength=count) / known.sum()
        most = int(booked.argmax())
        # With two ranks chance alone books half of the waiting to each.
        is_one = booked[most] > (1 + 1 / count) / 2 * max(booked.sum(), 1e-12)
        cause, excess = _longer_part(ledger, last, wait * (last == most if is_one else known))
        return cls(
            wait=float(wait[known].mean()),
            culprit=most if is_one else None,
            cause=cause,
            excess=excess,
            last_in=tuple(times_last.tolist()),
        )

    def tally(self, ranks: tuple[int, ...]) -> str:
        """Return who came last how often, the most frequent three."""
        order = sorted(range(len(ranks)), key=lambda place: -self.last_in[place])[:3]
        seldom = 0.005
        told = (
            f"rank {ranks[place]} in {percent(self.last_in[place])}"
            for place in order
            if self.last_in[place] >= seldom
        )
        return f"last of all: {', '.join(told)} of the steps"


def _longer_part(ledger: Ledger, last: np.ndarray, weight: Floats) -> tuple[int, float]:
    """Return which part of the late rank's step is longer, and by how many seconds.

    Steps count by how much waiting they caused. What a rank does after the exchange
    (`update`, and often `other`) delays its next step, so those two are looked at one
    step back as well.
    """
    count = len(ledger.ranks)
    at = np.arange(len(ledger.steps))
    total = max(float(weight.sum()), 1e-12)

    def excess(part: int, back: int) -> float:
        here = np.roll(ledger.parts[:, :, part], back, axis=1)
        late = here[last, at]
        others = (here.sum(axis=0) - late) / (count - 1)
        return float(np.nansum((late - others) * weight) / total)

    found = {
        INPUT: excess(INPUT, 0),
        COMPUTE: excess(COMPUTE, 0),
        UPDATE: excess(UPDATE, 1),
        OTHER: max(excess(OTHER, 0), excess(OTHER, 1)),
    }
    cause = max(found, key=lambda part: found[part])
    return cause, found[cause]


def _rates(rule: PartIsLong, facts: Facts) -> tuple[str, ...]:
    if rule.part != TRANSFER:
        return ()
    moved = float(mean(facts.typical.bytes))
    return () if np.isnan(moved) else (f"{moved / 1e6:.3g} MB of gradients a step on each rank",)


RULES: Final[tuple[Rule, ...]] = (
    PartIsLong(INPUT, "input", "waits for the next batch"),
    PeerIsLate(),
    PartIsLong(TRANSFER, "communication", "moves gradients, after the last rank was ready"),
    PartIsLong(UPDATE, "update", "applies the reduced gradients"),
    PartIsLong(OTHER, "other", "goes to callbacks, Python and whatever was not measured"),
)


def findings(ledger: Ledger) -> list[Finding]:
    """Return every loss worth naming, the costliest first; empty if there is none."""
    facts = Facts(ledger)
    if len(facts.typical.steps) < FEWEST_STEPS:
        return []
    found = [finding for rule in RULES if (finding := rule(facts)) is not None]
    return sorted(found, key=lambda finding: -finding.share)


def verdict(ledger: Ledger, waited: Mapping[int, Mapping[str, float]] | None = None) -> Verdict:
    """Return what holds the run up, in one sentence, with its evidence.

    Where that is the input, and `waited` has by rank what its readers were waited for, as
    `waits.Sums`, the sentence goes on with the stage and its share.

    ``kind`` is ``"input"``, ``"wait_peer"``, ``"transfer"``, ``"update"``, ``"other"``,
    ``"compute"`` where no loss is worth naming, or ``"unknown"`` where too little was
    measured. Shares are of the wall time of the typical steps, `Ledger.typical`.
    """
    facts = Facts(ledger)
    count = len(facts.typical.steps)
    if not count and len(ledger.timed().steps) >= FEWEST_STEPS:
        return _unknown("of the steps their length was measured, and nothing else")
    if count < FEWEST_STEPS:
        return _unknown(f"{count} measured steps, {FEWEST_STEPS} are needed")
    found = findings(ledger)
    counted = f"over {count} steps of {len(ledger.ranks)} rank{'s' * (len(ledger.ranks) != 1)}"
    if not found:
        return _compute(facts, counted)
    best = _with_stage(found[0], waited or {})
    return Verdict(**vars(replace(best, evidence=(*best.evidence, counted))))


def _with_stage(found: Finding, waited: Mapping[int, Mapping[str, float]]) -> Finding:
    """Return a finding about input with the stage of it that was waited for most."""
    if "input" not in {found.kind, found.cause}:
        return found
    # A late rank's input is what it is late for; otherwise all ranks' readers count.
    late = found.kind != "input" and found.rank in waited
    ranks = [waited[found.rank]] if late and found.rank is not None else list(waited.values())
    stage = input_waits.bound_by(ranks)
    return found if stage is None else replace(found, sentence=f"{found.sentence}, {stage}")


def _compute(facts: Facts, counted: str) -> Verdict:
    share = facts.part(COMPUTE) / facts.step
    if np.isnan(share):
        return _unknown("`compute` was not measured")
    said = (
        f"compute-bound: {percent(share)} of each step computes"
        if share >= BOUND
        else f"no one loss stands out: {percent(share)} of each step computes"
    )
    step = f"`compute` {ms(facts.part(COMPUTE))} of a {ms(facts.step)} step"
    return Verdict("compute", said, (step, counted), share)


def _unknown(why: str) -> Verdict:
    return Verdict("unknown", f"no verdict: {why}", (), float("nan"))
