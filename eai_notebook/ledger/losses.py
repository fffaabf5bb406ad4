"""The losses that a verdict may name: a rule for each kind.

Each looks for one kind and returns a finding, or nothing; it abstains where what it needs was not
measured. A part that explains less than half of a loss is not called its cause.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from eai_notebook.ledger import remedies, virtual_shares
from eai_notebook.ledger.arrays import mean
from eai_notebook.ledger.core_loss import core_loss
from eai_notebook.ledger.cores import share as core_share
from eai_notebook.ledger.facts import Facts, Finding
from eai_notebook.ledger.formatting import amount, ms, percent, span
from eai_notebook.ledger.parts import (
    COMPUTE,
    INPUT,
    OTHER,
    OWN,
    PARTS,
    TABLE,
    TRANSFER,
    UPDATE,
    WAIT_PEER,
)
from eai_notebook.ledger.step_schema import NAMED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eai_notebook.ledger.waiting import Waiting

WORTH_NAMING: Final = 0.15
"""A loss is named when it costs at least this share of a step."""

NOTICED: Final = 0.8 * WORTH_NAMING
"""A loss that is named already stays down to this share; rules find it from here on."""

BOUND: Final = 0.5
"""From this share on, a part rules the step: the step is bound by it."""

NAMELESS: Final = 0.25
"""What of `other` has no name, and is no one rank's, is a loss from this share of a step on: to call
Keras's loop and a graph takes any step one or two milliseconds, and nothing is wrong with it."""

LACKS_CORES: Final = 0.75
"""A late rank that gets less than this share of the processor time it could use lacks cores."""


FULL: Final = 0.6
"""A link is full when gradients move at this share of what it carries both ways at once."""

SLOWER: Final = 0.2
"""It has become slower, or is shared, when moving takes the inverse of this as long as it should."""


class Rule(ABC):
    """Looks for one kind of loss."""

    @abstractmethod
    def __call__(self, facts: Facts) -> Finding | None:
        """Return what was found, or None if nothing was or it cannot be known."""


@dataclass(frozen=True)
class PartIsLong(Rule):
    """A part takes a large share of the step on the ranks together."""

    part: int

    def __call__(self, facts: Facts) -> Finding | None:
        """Name the part if it costs enough, and the rank where it is worst."""
        length = facts.part(self.part)
        if not length >= NOTICED * facts.step:
            return None
        share = length / facts.step
        # Ranks move gradients together: there is no rank to blame for how long that takes.
        worst = None if self.part == TRANSFER else facts.worst(self.part)
        aside = "" if worst is None else _worst(facts, worst, facts.by_rank[worst, self.part])
        does = TABLE[self.part].does
        if self.part == TRANSFER:
            does = _over_link(facts) or does
        kind = PARTS[self.part]
        return Finding(
            kind=kind,
            sentence=_largest_loss(self.part, share, f"{does}{aside}"),
            evidence=(f"`{kind}` {ms(length)} of a {ms(facts.step)} step", *self._rates(facts)),
            share=share,
            rank=None if worst is None else facts.typical.ranks[worst],
            tries=tuple(
                remedy
                for remedy in self._tries(facts)
                if virtual_shares.is_possible(remedy, facts.context.meta)
            ),
            gain=facts.gain(length),
            numbers={"step": 1e3 * facts.step, kind: 1e3 * length},
        )

    def _rates(self, facts: Facts) -> tuple[str, ...]:
        if self.part != TRANSFER:
            return ()
        moved, link = float(mean(facts.typical.bytes)), facts.context.link
        if np.isnan(moved):
            return ()
        sent = f"{amount(moved)} of gradients a step on each rank"
        if link is None or np.isnan(facts.bus_bandwidth):
            return (sent,)
        return (
            f"{sent}, at {amount(facts.bus_bandwidth)}/s",
            f"the slowest link between the hosts carried {amount(link)}/s when the group started",
        )

    def _tries(self, facts: Facts) -> tuple[str, ...]:
        ledger, context = facts.typical, facts.context
        sent, embeddings = float(mean(ledger.bytes)), float(mean(ledger.embedding_bytes))
        if self.part == INPUT:
            return remedies.for_input(context, ledger.ranks)
        if self.part == TRANSFER:
            batch = float(mean(ledger.samples))
            wire = context.meta.get("wire")
            return remedies.for_transfer(batch, sent, embeddings, wire=wire)
        if self.part == UPDATE:
            return remedies.for_update(context, embeddings)
        return TABLE[self.part].remedies[: remedies.MOST]


def _largest_loss(part: int, share: float, does: str) -> str:
    """Return in words that a share of each step is lost in a part."""
    spent = f"{percent(share)} of each step {does}"
    # Half of the step or more: the part rules it. Less: it is the largest loss.
    if share >= BOUND:
        return f"{TABLE[part].label}-bound: {spent}"
    return f"`{PARTS[part]}` is the largest loss: {spent}"


def _worst(facts: Facts, index: int, length: float) -> str:
    """Return which rank loses most, and what share of a step."""
    return f" (rank {facts.typical.ranks[index]} worst, {percent(length / facts.step)})"


@dataclass(frozen=True)
class OtherIsLong(Rule):
    """Something of `other` with a name takes a large share of the step, or what has none does.

    Each name is a loss of its own, with what it takes itself: `other` holds all of them, and what a
    step takes outside of the graph anyway.
    """

    def __call__(self, facts: Facts) -> Finding | None:
        """Name the largest if it costs enough, and the rank where it is worst."""
        whole, named = facts.by_rank[:, OTHER], facts.named
        if not np.isfinite(whole).any():
            return None
        losses = [*named.T, np.nan_to_num(whole) - named.sum(axis=1)]
        least = [NOTICED] * len(NAMED) + [NOTICED / WORTH_NAMING * NAMELESS]
        enough = [
            (float(by_rank.mean()), index)
            for index, by_rank in enumerate(losses)
            if by_rank.mean() >= least[index] * facts.step
        ]
        if not enough:
            return None
        length, index = max(enough)
        share, ranks = length / facts.step, facts.typical.ranks
        worst = facts.worst_of(losses[index])
        aside = "" if worst is None else _worst(facts, worst, losses[index][worst])
        has_name = index < len(NAMED)
        label = facts.context.label(index, ranks) if has_name else ""
        does = f"goes to {label}" if has_name else TABLE[OTHER].does
        other = f"`other` {ms(facts.part(OTHER))} of a {ms(facts.step)} step"
        if has_name:
            other += f", {ms(length)} of it {label}"
        return Finding(
            kind=PARTS[OTHER],
            sentence=_largest_loss(OTHER, share, f"{does}{aside}"),
            evidence=(other,),
            share=share,
            rank=None if worst is None else ranks[worst],
            tries=remedies.for_other(facts.context, NAMED[index] if has_name else None, ranks),
            gain=facts.gain(length),
            numbers={"step": 1e3 * facts.step, "other": 1e3 * facts.part(OTHER)},
            times=1.0 if has_name else NAMELESS / WORTH_NAMING,
        )


def _over_link(facts: Facts) -> str:
    """Return what moving gradients is, where a link between hosts is what it takes its time for."""
    link, bus = facts.context.link, facts.bus_bandwidth
    if link is None or np.isnan(bus):
        return ""
    if bus >= FULL * link:
        return f"moves gradients over a link between hosts that is full, {amount(link)}/s"
    if float(mean(facts.typical.bytes)) / link < SLOWER * facts.part(TRANSFER):
        return f"moves gradients at {percent(bus / link)} of what the link carried at the start"
    return ""


@dataclass(frozen=True)
class PeerIsLate(Rule):
    """Ranks wait for a slower one: say which, and which part of its step is longer."""

    def __call__(self, facts: Facts) -> Finding | None:
        """Name the late rank if most of the waiting was for it."""
        waiting = facts.waiting
        if waiting is None:
            return None
        waited, sources, unexplained = waiting.of_culprit()
        if not waited >= NOTICED * facts.step:
            return None
        culprit, cause = waiting.culprit, waiting.cause()
        # Who lacks cores is late now and then, whatever it computes.
        if (culprit is None or cause is None) and _lost_to_cores(facts) >= waited / 2:
            return None
        ranks = facts.typical.ranks
        rank = None if culprit is None else ranks[culprit]
        name = None if cause is None else PARTS[cause]
        where = dict(zip((PARTS[part] for part in OWN), sources.tolist(), strict=True))
        idles = f"{ms(waited)} of {ms(facts.step)} ({percent(waited / facts.step)})"
        if rank is None:
            sentence = _each_other(name, where, idles)
        else:
            longer = self._what(facts, culprit, cause)
            sentence = _slow_one(rank, ranks, longer, where[name] if name else 0.0, idles)
        evidence = [self._who(waiting, ranks), self._whence(waited, where, unexplained)]
        work = virtual_shares.most_work(facts.context.meta, len(ranks))
        evidence += [line for line in (self._cores(facts, rank), work) if line]
        return Finding(
            kind="wait_peer",
            sentence=sentence,
            evidence=tuple(evidence),
            share=waited / facts.step,
            rank=rank,
            cause=name,
            tries=self._tries(facts, culprit, cause),
            gain=facts.gain(waited),
            numbers={
                "step": 1e3 * facts.step,
                "waiting": 1e3 * waited,
                "unexplained": 1e3 * unexplained,
                **{part: 1e3 * length for part, length in where.items()},
            },
        )

    def _kind(self, facts: Facts, culprit: int | None, cause: int | None) -> int | None:
        """Return the index in `NAMED` of what most of the late rank's `other` is."""
        if culprit is None or cause != OTHER:
            return None
        # What it has more of than the others: all ranks spend some time outside of the graph.
        longer = facts.named[culprit] - np.delete(facts.named, culprit, axis=0).mean(axis=0)
        whole = facts.by_rank[:, OTHER]
        excess = whole[culprit] - np.delete(whole, culprit).mean()
        most = int(longer.argmax()) if len(longer) else 0
        return most if len(longer) and longer[most] >= excess / 2 > 0 else None

    def _what(self, facts: Facts, culprit: int | None, cause: int | None) -> str:
        """Return what of the late rank is longer, in words; empty where that is not known."""
        if cause is None or culprit is None:
            return ""
        index = self._kind(facts, culprit, cause)
        if index is None:
            return f"`{PARTS[cause]}`"
        return f"`other`, {facts.context.label(index, [facts.typical.ranks[culprit]])},"

    def _who(self, waiting: Waiting, ranks: tuple[int, ...]) -> str:
        """Return who causes how much of the waiting, the three who cause most."""
        order = np.argsort(-waiting.caused, kind="stable")[:3]
        seldom = 0.005
        causes = [
            f"rank {ranks[index]} causes {percent(waiting.caused[index] / waiting.total)}, in "
            f"{waiting.in_steps[index]} of {waiting.steps} steps"
            for index in order
            if waiting.caused[index] >= seldom * waiting.total
        ]
        return f"of {ms(waiting.total)} waiting {', '.join(causes)}"

    def _whence(self, waited: float, where: dict[str, float], unexplained: float) -> str:
        """Return where the waiting comes from; the numbers add up to it."""
        seldom = 0.005
        fragments = [
            f"{ms(length)} from `{part}`"
            for part, length in sorted(where.items(), key=lambda item: -item[1])
            if length >= seldom * waited
        ]
        if unexplained >= seldom * waited:
            fragments.append(f"{ms(unexplained)} unexplained")
        return f"of these {ms(waited)}: {', '.join(fragments)}"

    def _cores(self, facts: Facts, rank: int | None) -> str:
        share = core_share(facts.context.cores.get(rank, {})) if rank is not None else 1.0
        if not share < LACKS_CORES:
            return ""
        return f"rank {rank} got {percent(share)} of the processor time that it could use"

    def _tries(self, facts: Facts, culprit: int | None, cause: int | None) -> tuple[str, ...]:
        ranks, context = facts.typical.ranks, facts.context
        rank = None if culprit is None else ranks[culprit]
        if (
            cause in (None, COMPUTE)
            and culprit is not None
            and virtual_shares.does_most(context.meta, len(ranks), culprit)
        ):
            return (virtual_shares.REMEDY,)
        index = self._kind(facts, culprit, cause)
        if index is not None and rank is not None:
            return remedies.for_other(context, NAMED[index], [rank])
        name = None if cause is None else PARTS[cause]
        return remedies.for_waiting(context, rank, name, facts.samples())


def _each_other(name: str | None, where: Mapping[str, float], idles: str) -> str:
    from_part = "" if name is None else f"; {ms(where[name])} of that come from `{name}`"
    return (
        f"ranks wait for each other: one that is not last idles {idles}, and no one rank "
        f"causes most of it{from_part}"
    )


def _slow_one(rank: int, ranks: tuple[int, ...], longer: str, length: float, idles: str) -> str:
    others = [other for other in ranks if other != rank]
    idle = "idles" if len(others) == 1 else "idle"
    than = f"rank {others[0]}'s" if len(others) == 1 else "the others'"
    if not longer:
        return (
            f"rank {rank} is the slow one: {span(others)} {idle} {idles} for it; "
            "no one part explains half of that"
        )
    return (
        f"rank {rank} is the slow one: its {longer} is {ms(length)} longer than {than}, "
        f"so {span(others)} {idle} {idles}"
    )


@dataclass(frozen=True)
class Stalling(Rule):
    """A few steps take much longer than the others."""

    def __call__(self, facts: Facts) -> Finding | None:
        """Name what is longer in the stalls, and the rank where it is."""
        stalls = facts.stalls
        if stalls is None:
            return None
        ledger = facts.measured
        # Not the typical step, which has no stalls.
        whole = stalls.usual + stalls.lost
        if not stalls.lost >= NOTICED * whole:
            return None
        ranks = ledger.ranks
        rank = None if stalls.rank is None else ranks[stalls.rank]
        looked_at = ranks if rank is None else (rank,)
        part = PARTS[stalls.part]
        own = stalls.own_kind(ledger.named, ledger.parts) if stalls.part == OTHER else None
        what = f"`{part}`" if own is None else facts.context.label(own, looked_at)
        count = int(stalls.which.sum())
        on = "" if rank is None else f" on rank {rank}"
        which = ledger.steps[stalls.which]
        named = ", ".join(str(each) for each in which[:6]) + ", ..." * (len(which) > 6)  # noqa: PLR2004
        kind = None if own is None else NAMED[own]
        return Finding(
            kind="stalls",
            sentence=(
                f"stalls: {count} of {len(ledger.steps)} steps take {ms(stalls.length)} longer "
                f"than the others' {ms(stalls.usual)}, {percent(stalls.lost / whole)} of the time; "
                f"in them it is {what}{on}"
            ),
            evidence=(
                f"spread over all steps they add {ms(stalls.lost)} to the others' {ms(stalls.usual)}",
                f"steps {named}",
            ),
            share=stalls.lost / whole,
            rank=rank,
            cause=part,
            tries=self._tries(facts, stalls.part, kind, looked_at),
            gain=f"without them: {whole / stalls.usual:.3g}x",
            numbers={"step": 1e3 * stalls.usual, "stalls": 1e3 * stalls.lost},
        )

    def _tries(
        self, facts: Facts, part: int, kind: str | None, ranks: tuple[int, ...]
    ) -> tuple[str, ...]:
        if part == OTHER and kind is not None:
            return remedies.for_other(facts.context, kind, ranks)
        if part == INPUT:
            return remedies.for_input(facts.context, ranks)
        return (
            "see with `top` what else runs there when it happens",
            "`%eai trace 20` while it happens",
        )


def _lost_to_cores(facts: Facts) -> float:
    """Return how long a step's own work lacks a core, in seconds; 0 where it is not known."""
    lack = facts.context.shortage()
    return core_loss(facts, lack).own if lack else 0.0


@dataclass(frozen=True)
class CoresAreTaken(Rule):
    """Other processes have the processors that the ranks need."""

    def __call__(self, facts: Facts) -> Finding | None:
        """Say what share of their processor time the ranks get, if it is little."""
        lack = facts.context.shortage()
        if lack is None:
            return None
        loss = core_loss(facts, lack)
        lost = loss.expected
        # Of the threads in which most is lost; those that exchange ask for a core all the time.
        got = lack.share if loss.own >= loss.transfer[0] else lack.exchange
        if not lost >= NOTICED * facts.step:
            return None
        exchanges = f"{ms(loss.transfer[0])} in exchanges"
        return Finding(
            kind="cores",
            sentence=(
                f"other processes have your cores: ranks get "
                f"{percent(got)} of the processor time that they "
                "could use"
            ),
            evidence=(
                f"{percent(lack.others)} of what the host's cores did was not for its ranks",
                f"about {ms(lost)} of a {ms(facts.step)} step are spent without a core",
                *(
                    [f"of these, {ms(loss.own)} in what ranks do themselves, {exchanges}"]
                    if len(facts.ledger.ranks) > 1
                    else []
                ),
            ),
            share=lost / facts.step,
            tries=remedies.for_cores(lack),
            gain=facts.gain(lost),
            numbers={"step": 1e3 * facts.step, "cores": 1e3 * lost},
        )


RULES: Final[tuple[Rule, ...]] = (
    # To compute is what a step is for, and waiting is put down to what it comes from.
    *(PartIsLong(p) for p in range(len(PARTS)) if p not in (COMPUTE, WAIT_PEER, OTHER)),
    OtherIsLong(),
    PeerIsLate(),
    Stalling(),
    CoresAreTaken(),
)
