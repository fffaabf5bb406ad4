"""Compare two runs part by part, with confidence intervals.

Step times drift and come in bursts, so neighbouring steps are not independent and the
usual standard error is far too small. Each run is cut into blocks of neighbouring steps;
one block gives one value, and the spread of the blocks gives the interval.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from eai_notebook.ledger.formatting import ms
from eai_notebook.ledger.merge import COMPUTE, INPUT, OTHER, TRANSFER, UPDATE, Floats, Ledger, mean
from eai_notebook.ledger.step_schema import PARTS
from eai_notebook.ledger.verdict import Lateness

BLOCKS: Final = 12
"""Blocks a run is cut into: enough for a spread, few enough to be long."""

WORTH_NAMING: Final = 0.05
"""A change is named when it is at least this share of the step before it."""


@dataclass(frozen=True)
class Change:
    """How much longer something became, in milliseconds a step, with its 99 % interval."""

    delta_ms: float
    low_ms: float
    high_ms: float

    @property
    def is_sure(self) -> bool:
        """Whether the interval leaves out "no change"."""
        return self.low_ms > 0 or self.high_ms < 0


@dataclass(frozen=True)
class Slower:
    """What made the steps longer: a part, on one rank or (``rank is None``) on all."""

    part: str
    rank: int | None
    change: Change

    def __str__(self) -> str:
        where = "every rank" if self.rank is None else f"rank {self.rank}"
        longer = ms(self.change.delta_ms / 1e3)
        return f"`{self.part}` is {longer} a step longer on {where}"


@dataclass(frozen=True)
class Comparison:
    """How a run differs from the one before it.

    ``parts`` and ``step`` are means over the ranks; ``by_rank`` has the parts of each
    rank that both runs have. ``slower`` names the cause if the steps became longer, None
    if they did not, or not surely.
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
    old, new = before.typical(), after.typical()
    ranks = tuple(rank for rank in new.ranks if rank in old.ranks)
    by_rank = {
        rank: dict(
            zip(
                PARTS,
                _changes(
                    old.parts[old.ranks.index(rank)],
                    new.parts[new.ranks.index(rank)],
                ),
                strict=True,
            ),
        )
        for rank in ranks
    }
    parts = dict(
        zip(PARTS, _changes(mean(old.parts, axis=0), mean(new.parts, axis=0)), strict=True)
    )
    lengths = [mean(run.timed().wall, axis=0) for run in (before, after)]
    step = _changes(lengths[0][:, None], lengths[1][:, None])[0]
    slower = _cause(new, by_rank, step, 1e3 * float(mean(lengths[0])))
    return Comparison(step, parts, by_rank, slower)


def _cause(
    new: Ledger,
    by_rank: dict[int, dict[str, Change]],
    step: Change,
    before_ms: float,
) -> Slower | None:
    """Return the own part that grew most where the group is slowest.

    The step of a group is as long as that of its slowest rank, so the cause is looked for
    on the rank that the others now wait for, and on all ranks if they wait for no one.
    """
    if not by_rank or not step.low_ms > 0 or step.delta_ms < WORTH_NAMING * before_ms:
        return None
    lateness = Lateness.of(new)
    culprit = None if lateness is None or lateness.culprit is None else new.ranks[lateness.culprit]
    own = (INPUT, COMPUTE, TRANSFER, UPDATE, OTHER)

    def grown(rank: int) -> Slower:
        part = max(
            (PARTS[p] for p in own), key=lambda name: _or_least(by_rank[rank][name].delta_ms)
        )
        return Slower(part, rank, by_rank[rank][part])

    each = [grown(rank) for rank in by_rank]
    worst = max(each, key=lambda found: found.change.delta_ms)
    if culprit is not None and culprit in by_rank:
        worst = grown(culprit)
    if not worst.change.is_sure:
        return None
    # The same growth everywhere is not one rank's doing.
    same = [by_rank[rank][worst.part].delta_ms for rank in by_rank]
    everywhere = len(same) > 1 and min(same) > worst.change.delta_ms / 2
    return Slower(worst.part, None if everywhere or len(same) == 1 else worst.rank, worst.change)


def _or_least(value: float) -> float:
    return value if np.isfinite(value) else -np.inf


def _changes(before: Floats, after: Floats) -> list[Change]:
    """Return the change of each column of ``[S, C]`` tables of seconds."""
    changes = []
    for column in range(before.shape[1]):
        old, new = _blocks(before[:, column]), _blocks(after[:, column])
        delta = 1e3 * (new.mean() - old.mean()) if len(old) and len(new) else np.nan
        if len(old) > 1 and len(new) > 1:
            squared = old.var(ddof=1) / len(old) + new.var(ddof=1) / len(new)
            reach = 1e3 * _t99(len(old) + len(new) - 2) * float(np.sqrt(squared))
        else:
            reach = np.nan
        changes.append(Change(float(delta), float(delta - reach), float(delta + reach)))
    return changes


def _t99(freedom: int) -> float:
    """Return Student's t for a 99 % interval, by its expansion about the normal quantile."""
    z = 2.5758
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    return z + first / freedom + second / freedom**2


def _blocks(values: Floats) -> Floats:
    """Return the median of each block of neighbouring steps."""
    values = values[np.isfinite(values)]
    blocks = [b for b in np.array_split(values, min(BLOCKS, len(values) // 4 or 1)) if len(b)]
    return np.array([np.median(block) for block in blocks])
