"""Merge the rows of all ranks and split each step into its parts.

A rank alone cannot distinguish waiting for a slower rank from moving bytes: both happen between
its own gradients being ready and the reduced ones being there. With every rank's rows on
one clock the moment the last rank arrived is known, and the split is a subtraction.

It can be made without clocks, too: in a synchronous step all ranks leave the exchange nearly
together, so the shortest exchange of all is that of the rank that came last, and what the
others' are longer is waiting. Both are computed. Durations alone count where the clocks are
in doubt by more than the wait, or contradict each other: nobody has a sum before all have sent.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from eai_notebook.ledger.arrays import Bools, Floats, Ints, mean
from eai_notebook.ledger.parts import (
    ADDED,
    COMPUTE,
    IN_ORDER_OF_CLAIM,
    INPUT,
    MARKED,
    OTHER,
    PARTS,
    TABLE,
)
from eai_notebook.ledger.stalls import Stalls
from eai_notebook.ledger.step_schema import NAMED, STEP_DTYPE, as_steps

if TYPE_CHECKING:
    from collections.abc import Mapping

SLOWEST_LEFT_OUT: Final = 0.02
"""Share of the steps, the slowest, that say nothing about a typical step.

Checkpoints, evaluation and the collector's long pauses make a few steps many times longer
than the rest. Medians would hide them too, but medians of parts do not add up to the
median step and do not see an input that stalls every fifth step.
"""


@dataclass(frozen=True)
class Ledger:
    """The account of `R` ranks over `S` steps, in seconds; NaN is "not measured".

    ``parts`` is ``[R, S, P]`` in the order of `PARTS`; over the parts that were measured
    it adds up to ``wall`` ``[R, S]``. ``last_rank[S]`` is the rank whose gradients came
    last, -1 where that is not known. ``end[R, S]`` is on rank 0's clock. ``clamped[R, S]``
    marks steps whose stamps contradicted each other and were cut to fit.

    ``ahead[R, S]`` is what of `other` lies before the gradients were ready, ``named[R, S, K]``
    what of it has a name, in the order of `NAMED`. ``unaligned[R, S]`` is the waiting by
    durations alone, whichever of the two is in ``parts``.
    """

    ranks: tuple[int, ...]
    steps: Ints
    parts: Floats
    wall: Floats
    hidden: Floats
    samples: Floats
    bytes: Floats
    embedding_bytes: Floats
    redone: Floats
    last_rank: Ints
    end: Floats
    clamped: Bools
    ahead: Floats
    named: Floats
    unaligned: Floats

    def select(self, steps: Bools | npt.NDArray[np.intp] | slice) -> Ledger:
        """Return the account of some of the steps, chosen as NumPy indexes an axis."""
        return Ledger(
            ranks=self.ranks,
            steps=self.steps[steps],
            parts=self.parts[:, steps],
            wall=self.wall[:, steps],
            hidden=self.hidden[:, steps],
            samples=self.samples[:, steps],
            bytes=self.bytes[:, steps],
            embedding_bytes=self.embedding_bytes[:, steps],
            redone=self.redone[:, steps],
            last_rank=self.last_rank[steps],
            end=self.end[:, steps],
            clamped=self.clamped[:, steps],
            ahead=self.ahead[:, steps],
            named=self.named[:, steps],
            unaligned=self.unaligned[:, steps],
        )

    def measured(self) -> Ledger:
        """Return the steps that every rank measured.

        The first step of a run traces and compiles, so its parts are not measured; of short
        steps only some are; and the last steps of a rank that died are not there at all. If the ranks share no
        measured step, the steps that any rank measured are returned.
        """
        return self._measured

    @cached_property
    def _measured(self) -> Ledger:
        which = self.which_measured()
        return self if which.all() else self.select(which)

    def which_measured(self) -> Bools:
        """Return which steps `measured` selects."""
        known = np.isfinite(self.wall) & np.isfinite(self.parts[:, :, MARKED]).any(axis=2)
        everywhere: Bools = np.asarray(known.all(axis=0))
        return everywhere if everywhere.any() else np.asarray(known.any(axis=0))

    @cached_property
    def stalls(self) -> Stalls | None:
        """Which of the measured steps stall, if some do."""
        measured = self.measured()
        return Stalls.of(measured.parts, measured.wall, measured.steps)

    def typical(self) -> Ledger:
        """Return the typical steps: those that every display's means are over.

        They are the measured ones without those that stall or, where none does, without the
        slowest few, see `SLOWEST_LEFT_OUT`.
        """
        return self._typical

    @cached_property
    def _typical(self) -> Ledger:
        which = self.which_typical
        return self.measured() if which.all() else self.measured().select(which)

    @cached_property
    def which_typical(self) -> Bools:
        """Which of the measured steps are typical."""
        if self.stalls is not None:
            return np.asarray(~self.stalls.affected)
        return _but_slowest(self.measured())

    def timed(self) -> Ledger:
        """Return the typical steps, or, where no step was measured, those of a known length.

        On parameter servers it is their length alone that is known. A run's first step does not
        count: in the ring it compiles, and is all there is until others are measured.
        """
        if len(self.typical().steps):
            return self.typical()
        known: Bools = np.asarray(np.isfinite(self.wall).all(axis=0) & (self.steps > 0))
        ledger = self.select(known)
        return ledger.select(_but_slowest(ledger))


def _but_slowest(ledger: Ledger) -> Bools:
    """Return which steps are not among the slowest few."""
    kept = np.ones(len(ledger.steps), np.bool_)
    drop = int(len(ledger.steps) * SLOWEST_LEFT_OUT)
    if drop:
        by_length = np.argsort(mean(ledger.wall, axis=0), kind="stable")
        kept[by_length[-drop:]] = False
    return kept


def merge(
    rows: Mapping[int, np.ndarray],
    clock_offset: Mapping[int, float],
    clock_uncertainty: Mapping[int, float] | None = None,
) -> Ledger:
    """Return the account of the ranks in `rows`, each an array of `STEP_DTYPE`.

    ``clock_offset`` is what to add to a rank's clock to get rank 0's, in seconds, and
    ``clock_uncertainty`` the most that can be wrong; a rank that is not named is on rank 0's
    clock. Waiting is split from moving bytes only in
    steps where every rank of `rows` says when it was ready: otherwise the one that is
    missing may have been the last, and both parts are missing.

    Examples:
        >>> from eai_notebook.ledger.parts import PARTS
        >>> from eai_notebook.ledger.step_schema import empty_steps
        >>> early, late = empty_steps(1), empty_steps(1)
        >>> for row, compute in (early, 1.0), (late, 3.0):
        ...     row["begin"], row["end"], row["input"] = 10.0, 15.0, 0.5
        ...     row["compute"], row["ready"], row["reduced"] = compute, 10.5 + compute, 14.5
        ...     row["update"] = 0.25
        >>> ledger = merge({0: early, 1: late}, {})
        >>> dict(zip(PARTS, ledger.parts[0, 0].tolist()))["wait_peer"], ledger.last_rank.tolist()
        (2.0, [1])
    """
    ranks = tuple(sorted(rows))
    columns = [rows[rank]["step"] for rank in ranks]
    offsets = np.array([clock_offset.get(rank, 0.0) for rank in ranks])
    doubts = np.array([(clock_uncertainty or {}).get(rank, 0.0) for rank in ranks])
    steps = _common_steps(columns)
    if steps is not None:
        table = _Table(len(ranks), len(steps))
        table.fill(
            slice(None), _side_by_side([rows[r] for r in ranks]), slice(None), offsets[:, None]
        )
    else:
        steps = np.unique(np.concatenate(columns)).astype(np.int64)
        table = _Table(len(ranks), len(steps))
        for position, rank in enumerate(ranks):
            at = np.searchsorted(steps, rows[rank]["step"])
            table.fill(position, rows[rank], at, offsets[position])
    parts, clamped, last, unaligned = table.split(doubts)
    ahead, named = table.other(parts)
    return Ledger(
        ranks=ranks,
        steps=steps,
        parts=parts,
        wall=table.wall,
        hidden=table.column["hidden"],
        samples=table.column["samples"],
        bytes=table.column["bytes"],
        embedding_bytes=table.column["embedding_bytes"],
        redone=table.column["redone"],
        last_rank=np.where(last < 0, -1, np.asarray((*ranks, -1), dtype=np.int64)[last]),
        end=table.end,
        clamped=clamped,
        ahead=ahead,
        named=named,
        unaligned=unaligned,
    )


class GrowingLedger:
    """The account of a run that is still going, merged as its rows come in.

    A step is merged once, when every rank has sent it; so following a long run on many
    ranks costs what is new, not the whole run, and nothing is kept that has been handed
    out. ``take()`` therefore ends at the last step that all ranks have sent, and
    ``rest()`` is for the end, when no more will come.

    Examples:
        >>> from eai_notebook.ledger.step_schema import empty_steps
        >>> growing = GrowingLedger(size=2)
        >>> for rank in 0, 1:
        ...     growing.begin(rank, clock_offset=0.0)
        ...     growing.add(rank, empty_steps(3 + rank))
        >>> growing.take().steps.tolist(), growing.rest().steps.tolist()
        ([0, 1, 2], [3])
    """

    def __init__(self, size: int) -> None:
        """Expect `size` ranks to begin."""
        self._size = size
        self._offset: dict[int, float] = {}
        self._doubt: dict[int, float] = {}
        self._waiting: dict[int, list[np.ndarray]] = {}
        self._last: dict[int, int] = {}

    def begin(self, rank: int, clock_offset: float, clock_uncertainty: float = 0.0) -> None:
        """Expect rows of `rank`; `clock_offset` takes its clock to rank 0's, in seconds."""
        self._offset[rank] = clock_offset
        self._doubt[rank] = clock_uncertainty
        self._waiting.setdefault(rank, [])

    def add(self, rank: int, rows: np.ndarray) -> None:
        """Add rows of a rank that began: in step order, not given before."""
        if len(rows):
            self._waiting[rank].append(as_steps(rows))
            self._last[rank] = int(rows["step"][-1])

    def take(self) -> Ledger:
        """Return the account of the steps that all ranks have sent and that are new."""
        complete = min(self._last.values()) if len(self._last) == self._size else -1
        ready = {}
        for rank, pieces in self._waiting.items():
            rows = _joined(pieces)
            count = int(np.searchsorted(rows["step"], complete, side="right"))
            ready[rank] = rows[:count]
            self._waiting[rank] = [rows[count:]] if count < len(rows) else []
        return merge(ready, self._offset, self._doubt)

    def rest(self) -> Ledger:
        """Return the account of what is left: steps that only some ranks came to."""
        left = {rank: _joined(pieces) for rank, pieces in self._waiting.items()}
        self._waiting = {rank: [] for rank in left}
        return merge(left, self._offset, self._doubt)


_RAW: Final = np.dtype(f"V{STEP_DTYPE.itemsize}")
"""A row as bytes: NumPy joins these at once, and rows with named fields one by one."""


def _joined(pieces: list[np.ndarray]) -> np.ndarray:
    """Return pieces of one rank's rows as one array."""
    if len(pieces) == 1:
        return pieces[0]
    if not pieces:
        return np.empty(0, STEP_DTYPE)
    return np.concatenate([piece.view(_RAW) for piece in pieces]).view(STEP_DTYPE)


def _side_by_side(rows: list[np.ndarray]) -> np.ndarray:
    """Return rows of ranks that made the same steps as one array, a line a rank."""
    return _joined(rows).reshape(len(rows), -1) if rows else np.empty((0, 0), STEP_DTYPE)


def mean_parts(ledger: Ledger, axis: int | tuple[int, ...]) -> Floats:
    """Return the mean of each part over ranks (axis 0), steps (1) or both, ``[..., P]``.

    Over the same steps as the mean of the wall time, so that they add up to it: where a part
    was not measured its time is in `other`, and a part that was nowhere measured is NaN.
    """
    known = np.isfinite(ledger.wall)
    count = np.asarray(known.sum(axis=axis))
    here = np.isfinite(ledger.parts) & known[:, :, None]
    total = np.where(here, ledger.parts, 0.0).sum(axis=axis)
    return np.asarray(
        np.where(here.any(axis=axis), total / np.maximum(count, 1)[..., None], np.nan)
    )


_TIMES: Final = ("begin", "end", "ready", "reduced")
"""Columns that are times on the rank's clock; the others are lengths and counts."""

_COLUMNS: Final = tuple(name for name in STEP_DTYPE.names or () if name != "step")

_UNCLAIMED: Final = tuple(name for name in NAMED if not any(name in part.columns for part in ADDED))
"""What of `NAMED` is still in `other`: an added part may have a name's time for itself."""

_AHEAD: Final = (
    INPUT,
    COMPUTE,
    *(PARTS.index(part.name) for part in ADDED if not part.after_exchange),
)
"""The parts before the exchange."""


class _Table:
    """The columns of all ranks, ``[R, S]`` each, and how a step is split into parts."""

    def __init__(self, ranks: int, steps: int) -> None:
        self._shape = (ranks, steps)
        self.column = {name: self._missing() for name in ("wall", *_COLUMNS)}
        self.waiting: Floats = self._missing()

    def __getitem__(self, column: str) -> Floats:
        return self.column[column]

    @property
    def wall(self) -> Floats:
        return self.column["wall"]

    @property
    def end(self) -> Floats:
        return self.column["end"]

    def fill(
        self,
        position: int | slice,
        rows: np.ndarray,
        at: npt.NDArray[np.intp] | slice,
        offset: float | Floats,
    ) -> None:
        """Put rows at the steps `at`, their times moved to rank 0's clock.

        They are one rank's, or those of all ranks that made the same steps.
        """
        wall = rows["end"] - rows["begin"]
        # A step that ends before it began was not measured: nothing in it can be believed.
        believed = wall > 0
        self.column["wall"][position, at] = np.where(believed, wall, np.nan)
        for name in _COLUMNS:
            values = rows[name] + offset if name in _TIMES else rows[name]
            self.column[name][position, at] = np.where(believed, values, np.nan)

    def split(self, doubts: Floats) -> tuple[Floats, Bools, Ints, Floats]:
        """Return parts, which steps were cut, whose rank came last, and waiting by durations alone.

        ``doubts`` is how far off each rank's clock may be.
        """
        ready, reduced = self.column["ready"], self.column["reduced"]
        exchange = reduced - ready
        complete = np.asarray(np.isfinite(ready).all(axis=0) & (len(ready) > 0))
        wait, last = self._wait_by_clocks(exchange, complete)
        unaligned, shortest = _wait_by_durations(exchange, complete)
        if len(ready):
            with np.errstate(invalid="ignore"):
                contradiction = ready.max(axis=0) - reduced.min(axis=0)
            doubt = np.fmax(doubts[:, None] + doubts[last], contradiction)
            with np.errstate(invalid="ignore"):
                # A doubt that nothing speaks for is a grain of the clock, not a doubt.
                doubtful = (doubt > wait) & (doubt > _CLOCK_GRAIN) & np.isfinite(unaligned)
                largest = np.where(complete, np.nan_to_num(wait).max(axis=0), 0.0)
                whole = (doubt.max(axis=0) > np.maximum(largest, _CLOCK_GRAIN)) & (shortest >= 0)
            wait = np.where(doubtful | (whole & np.isfinite(unaligned)), unaligned, wait)
            last = np.where(whole, shortest, last)

        self.waiting = np.asarray(wait)
        parts = np.full((*self._shape, len(PARTS)), np.nan)
        for index, part in enumerate(TABLE):
            if part.derive is not None:
                parts[:, :, index] = part.derive(self)
        clamped = self._balance(parts)
        return parts, clamped, last.astype(np.int64), unaligned

    def _wait_by_clocks(self, exchange: Floats, complete: Bools) -> tuple[Floats, Ints]:
        """Return how long each rank waited until the last one was ready, and which that was."""
        ready = self.column["ready"]
        comparable = np.where(complete, ready, -np.inf)
        last = np.where(complete, comparable.argmax(axis=0) if len(ready) else 0, -1)
        lateness = (comparable.max(axis=0) if len(ready) else np.zeros(0)) - ready
        wait = np.where(complete, np.clip(lateness, 0.0, np.maximum(exchange, 0.0)), np.nan)
        return wait, np.asarray(last, dtype=np.int64)

    def other(self, parts: Floats) -> tuple[Floats, Floats]:
        """Return what of `other` lies before the gradients were ready, and what has a name."""
        whole = parts[:, :, OTHER]
        before = np.nansum(parts[:, :, _AHEAD], axis=2)
        with np.errstate(invalid="ignore"):
            ahead = np.clip(self["ready"] - self["begin"] - before, 0.0, whole)
        named = np.stack([self[name] for name in NAMED], axis=2)
        named[:, :, [name not in _UNCLAIMED for name in NAMED]] = np.nan
        sums = np.nansum(named, axis=2)
        # Some of it may have gone on while the graph ran, and is in another part already.
        with np.errstate(invalid="ignore", divide="ignore"):
            fits = np.where(sums > whole, whole / np.maximum(sums, 1e-300), 1.0)
        return ahead, named * fits[:, :, None]

    def _balance(self, parts: Floats) -> Bools:
        """Make the parts of each step add up to its wall time; say which had to be cut.

        What the measured parts leave over is `other`. A negative part becomes zero, so its
        time shows in `other`; parts that together are longer than the step are cut in the
        order of the step, the later ones first to lose, and added ones before all. Nothing is
        ever spread.
        """
        clamped = np.zeros(self._shape, dtype=np.bool_)
        left = self.wall.copy()
        for part in IN_ORDER_OF_CLAIM:
            asked = parts[:, :, part]
            # Comparisons with NaN are false: a missing part takes nothing and stays missing.
            with np.errstate(invalid="ignore"):
                clamped |= (asked < 0) | (asked > left + _CLOCK_GRAIN)
                parts[:, :, part] = np.minimum(np.maximum(asked, 0.0), left)
            left -= np.nan_to_num(parts[:, :, part])
        parts[:, :, OTHER] = left
        return clamped

    def _missing(self) -> Floats:
        return np.full(self._shape, np.nan)


def _wait_by_durations(exchange: Floats, complete: Bools) -> tuple[Floats, Ints]:
    """Return how much longer each rank's exchange is than the shortest, and whose that is.

    The position is -1, and the waiting NaN, where not every rank's exchange is known.
    """
    known = complete & np.isfinite(exchange).all(axis=0) & (len(exchange) > 0)
    if not len(exchange):
        return exchange, np.zeros(0, np.int64)
    least = np.where(known, np.where(known, exchange, 0.0).min(axis=0), np.nan)
    position = np.where(known, np.where(known, exchange, 0.0).argmin(axis=0), -1)
    return exchange - np.maximum(least, 0.0), np.asarray(position, dtype=np.int64)


_CLOCK_GRAIN: Final = 5e-6
"""Stamps are doubles in seconds since the epoch, whose last digits are worth 0.24 us each."""


def _common_steps(columns: list[Ints]) -> Ints | None:
    """Return the steps if all ranks made the same ones, in order; otherwise None."""
    if not columns:
        return np.empty(0, dtype=np.int64)
    first = np.array(columns[0], dtype=np.int64)
    same = all(np.array_equal(first, other) for other in columns[1:])
    return first if same and (np.diff(first) > 0).all() else None


def append(before: Ledger, after: Ledger) -> Ledger:
    """Return the account of later steps of the same ranks behind that of earlier ones."""
    joined = {}
    for field in fields(Ledger):
        if field.name != "ranks":
            old, new = getattr(before, field.name), getattr(after, field.name)
            joined[field.name] = np.concatenate([old, new], axis=0 if old.ndim == 1 else 1)
    return Ledger(ranks=after.ranks, **joined)
