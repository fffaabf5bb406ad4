"""Compare two runs part by part, with confidence intervals.

Step times drift and come in bursts, so neighbouring steps are not independent and the
usual standard error is far too small. Each run is cut into blocks of neighbouring steps;
one block gives one mean, and the spread of these gives the interval. What changed is the
difference of the means over all typical steps, the same means that every display shows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from eai_notebook.ledger.arrays import Floats, mean
from eai_notebook.ledger.facts import Facts
from eai_notebook.ledger.formatting import ms
from eai_notebook.ledger.parts import OTHER, OWN, PARTS, TRANSFER

if TYPE_CHECKING:
    from eai_notebook.ledger.merge import Ledger

BLOCKS: Final = 12
"""Blocks a run is cut into: enough for a spread, few enough to be long."""

WORTH_NAMING: Final = 0.02
"""A change is named when it is at least this share of the step before it: two runs of the same settings
differ by one or two percent."""

SURELY: Final = 0.01
"""Where steps are not longer beyond doubt, a part is named if it is, by this share of a step at least."""


@dataclass(frozen=True)
class Change:
    """How much longer something became, in milliseconds a step, with its 99 % interval.

    ``delta_ms`` is ``after_ms - before_ms``.
    """

    delta_ms: float
    low_ms: float
    high_ms: float
    before_ms: float = np.nan
    after_ms: float = np.nan

    @property
    def is_sure(self) -> bool:
        """Whether the interval leaves out "no change"."""
        return self.low_ms > 0 or self.high_ms < 0


@dataclass(frozen=True)
class Slower:
    """What made the steps longer: a part, on one rank or (``rank is None``) on all.

    ``what`` is a thing of `other` by its name, in words, where it is that which surely became longer;
    the change is its own then.
    """

    part: str
    rank: int | None
    change: Change
    what: str = ""

    def __str__(self) -> str:
        where = "every rank" if self.rank is None else f"rank {self.rank}"
        longer = ms(self.change.delta_ms / 1e3)
        return f"{self.what or f'`{self.part}`'} is {longer} a step longer on {where}"


@dataclass(frozen=True)
class Comparison:
    """How a run differs from the one before it.

    ``parts`` and ``step`` are means over the ranks; ``by_rank`` has the parts of each
    rank that both runs have. ``slower`` names the cause if the steps became longer, or
    what surely became longer on a rank; None if nothing surely did.
    """

    step: Change
    parts: dict[str, Change]
    by_rank: dict[int, dict[str, Change]]
    slower: Slower | None


def compare(before: Ledger, after: Ledger) -> Comparison:
    """Return what changed from one run to the next, over their typical steps.

    A part of one rank that became longer makes the others wait: then the part is named
    with its rank, and the waiting is not blamed. Runs of a few steps give wide intervals
    and so no cause.

    Examples:
        >>> import numpy as np
        >>> from eai_notebook.ledger.merge import merge
        >>> from eai_notebook.ledger.step_schema import empty_steps
        >>> def run(waiting: float) -> Ledger:
        ...     rows = empty_steps(120)
        ...     rows["begin"] = np.arange(120.0)
        ...     rows["end"] = rows["begin"] + 0.010 + waiting
        ...     rows["input"], rows["compute"] = waiting, 0.009
        ...     return merge({0: rows}, {})
        >>> print(compare(run(0.001), run(0.006)).slower)
        `input` is 5.00 ms a step longer on every rank
    """
    return compare_facts(Facts(before), Facts(after))


def compare_facts(before: Facts, after: Facts) -> Comparison:
    """Return what changed from one run's numbers to the next one's; see `compare`."""
    old, new = before.typical, after.typical
    ranks = tuple(rank for rank in new.ranks if rank in old.ranks)
    by_rank = {}
    for rank in ranks:
        at = old.ranks.index(rank), new.ranks.index(rank)
        tables = _filled(old.parts[at[0]]), _filled(new.parts[at[1]])
        means = before.by_rank[at[0]], after.by_rank[at[1]]
        by_rank[rank] = dict(zip(PARTS, _changes(tables, means), strict=True))
    tables = mean(_filled(old.parts), axis=0), mean(_filled(new.parts), axis=0)
    parts = dict(zip(PARTS, _changes(tables, (before.parts, after.parts)), strict=True))
    lengths = [mean(run.ledger.timed().wall, axis=0)[:, None] for run in (before, after)]
    steps = np.array([before.step]), np.array([after.step])
    step = _changes((lengths[0], lengths[1]), steps)[0]
    slower = _cause(after, by_rank, step, 1e3 * before.step)
    if slower is None and not step.high_ms < 0:
        slower = _named_cause(before, after, ranks)
    return Comparison(step, parts, by_rank, slower)


def _cause(
    after: Facts,
    by_rank: dict[int, dict[str, Change]],
    step: Change,
    before_ms: float,
) -> Slower | None:
    """Return the own part that grew most where the group is slowest.

    The step of a group is as long as that of its slowest rank, so the cause is looked for
    on the rank that the others now wait for, and on all ranks if they wait for no one.
    """
    if not by_rank or step.high_ms < 0:
        return None
    is_longer = step.low_ms > 0 and step.delta_ms >= WORTH_NAMING * before_ms
    waiting, ranks = after.waiting, after.typical.ranks
    culprit = None if waiting is None or waiting.culprit is None else ranks[waiting.culprit]

    def grown(rank: int) -> Slower:
        part = max(
            (PARTS[p] for p in (*OWN, TRANSFER)),
            key=lambda name: _or_least(by_rank[rank][name].delta_ms),
        )
        return Slower(part, rank, by_rank[rank][part])

    each = [grown(rank) for rank in by_rank]
    worst = max(each, key=lambda found: found.change.delta_ms)
    if culprit is not None and culprit in by_rank:
        worst = grown(culprit)
    if not worst.change.is_sure:
        return None
    if not is_longer and not _grew_alone(worst, by_rank, before_ms):
        return None
    if worst.part == PARTS[TRANSFER]:  # all ranks move gradients together
        return Slower(worst.part, None, worst.change) if is_longer else None
    # The same growth everywhere is not one rank's doing.
    same = [by_rank[rank][worst.part].delta_ms for rank in by_rank]
    everywhere = len(same) > 1 and min(same) > worst.change.delta_ms / 2
    others = [by_rank[rank][worst.part].delta_ms for rank in by_rank if rank != worst.rank]
    if not is_longer and not everywhere and worst.change.low_ms <= max(others, default=-np.inf):
        return None  # it may as well be another rank's, or everyone's
    return Slower(worst.part, None if everywhere or len(same) == 1 else worst.rank, worst.change)


def _named_cause(before: Facts, after: Facts, ranks: tuple[int, ...]) -> Slower | None:
    """Return the thing of `other` with a name that surely became longer, where nothing else is sure.

    What Python spends besides differs more from run to run than a callback that is small.
    """
    found: dict[tuple[int, int], Change] = {}
    for rank in ranks:
        at = before.typical.ranks.index(rank), after.typical.ranks.index(rank)
        tables = tuple(
            np.nan_to_num(f.typical.named[i]) for f, i in zip((before, after), at, strict=True)
        )
        changes = _changes((tables[0], tables[1]), (before.named[at[0]], after.named[at[1]]))
        found |= {(rank, kind): change for kind, change in enumerate(changes)}
    if not found:
        return None
    rank, kind = max(found, key=lambda each: _or_least(found[each].delta_ms))
    change = found[rank, kind]
    if not change.low_ms >= SURELY * 1e3 * before.step:
        return None
    everywhere = len(ranks) > 1 and all(
        found[each, kind].delta_ms > change.delta_ms / 2 for each in ranks
    )
    where = None if everywhere or len(ranks) == 1 else rank
    return Slower(PARTS[OTHER], where, change, after.context.label(kind, [rank]))


def _grew_alone(found: Slower, by_rank: dict[int, dict[str, Change]], before_ms: float) -> bool:
    """Return whether a part grew beyond doubt though the steps, beyond doubt, did not.

    Ranks wait for each other anyway, so that what one of them takes longer is not always seen in the
    step. The part must have grown by more than two equal runs differ, and not at another's cost.
    """
    if found.rank is None or PARTS.index(found.part) not in OWN:
        return False
    # What others surely lost: what they may have lost by chance is no cost.
    shorter = sum(
        min(by_rank[found.rank][PARTS[part]].high_ms, 0.0)
        for part in OWN
        if np.isfinite(by_rank[found.rank][PARTS[part]].high_ms)
    )
    own = found.change.delta_ms + shorter
    return found.change.low_ms >= SURELY * before_ms and own >= 2 / 3 * found.change.delta_ms


def _or_least(value: float) -> float:
    return value if np.isfinite(value) else -np.inf


def _filled(parts: Floats) -> Floats:
    """Return parts ``[..., S, P]`` with 0 where one was not measured, but NaN if it never was.

    The time of a part that was not measured is in `other`, so the parts add up to the step.
    """
    known = np.isfinite(parts)
    ever = known.any(axis=tuple(range(parts.ndim - 1)))
    return np.asarray(np.where(ever, np.where(known, parts, 0.0), np.nan))


def _changes(tables: tuple[Floats, Floats], means: tuple[Floats, Floats]) -> list[Change]:
    """Return the change of each column of two runs' ``[S, C]`` tables, in seconds.

    The change is the difference of their `means`, which displays show; the tables are for its
    interval.
    """
    changes = []
    for column in range(len(means[0])):
        before, after = (1e3 * float(each[column]) for each in means)
        blocks = [_blocks(table[np.isfinite(table[:, column]), column]) for table in tables]
        if min(map(len, blocks)) > 1:
            squared = sum(run.var(ddof=1) / len(run) for run in blocks)
            freedom = len(blocks[0]) + len(blocks[1]) - 2
            reach = 1e3 * _t99(freedom) * float(np.sqrt(squared))
        else:
            reach = np.nan
        delta = after - before
        changes.append(Change(delta, delta - reach, delta + reach, before, after))
    return changes


def _t99(freedom: int) -> float:
    """Return Student's t for a 99 % interval, by its expansion about the normal quantile."""
    z = 2.5758
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    return z + first / freedom + second / freedom**2


def _blocks(values: Floats) -> Floats:
    """Return the mean of each block of neighbouring steps; `values` are all known."""
    blocks = [b for b in np.array_split(values, min(BLOCKS, len(values) // 4 or 1)) if len(b)]
    return np.array([block.mean() for block in blocks])
