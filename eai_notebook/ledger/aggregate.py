"""Aggregate a run of any length in bounded memory, for displays.

A million steps on 64 ranks are half a gigabyte; a screen shows a few hundred columns. So
neighbouring steps are put into buckets whose width doubles when there are too many, and
for means and the verdict every n-th step is kept. Adding steps costs what is new,
whatever came before, and the order of pieces makes no difference to the result.

Where steps are short only some are measured. The others are as the measured ones, unless
they took strikingly long: then their time is shown, as not measured.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from eai_notebook.ledger.arrays import Bools, Floats, Ints, mean
from eai_notebook.ledger.merge import Ledger, append, mean_parts, merge
from eai_notebook.ledger.parts import MARKED, OWN, PARTS

MOST_BUCKETS: Final = 240
"""More bars than this a screen cannot show side by side."""

MOST_STEPS_KEPT: Final = 2000
"""Means over more steps than this are taken over evenly spaced ones."""

MOST_ROWS_KEPT: Final = 32_000
"""Of all ranks together: many ranks keep fewer steps, so that a look stays quick."""

STRIKING: Final = 2.0
"""A step is strikingly long from this many times the usual length on."""

RECENT_STEPS: Final = 24
"""What a rank does "now" is read off its latest steps."""


class Summary:
    """What is known of a run: give it the steps piece by piece, in order, with `add`.

    ``kept`` is a ledger of evenly spaced steps, ``recent`` one of the latest. Over the
    buckets: ``starts[B]`` is the first step of each, ``stops[B]`` the step after its last
    one, and ``width`` how many measured ones it holds; ``parts[B, P]`` are the means over
    ranks, ``unmeasured[B]`` the mean time that no part explains: together they are a step's
    mean length; ``samples[B]`` are those of a step of all ranks. ``own[R, B]`` is what each rank spent on itself. ``longest`` is the longest
    step and its length, a mean over ranks.
    ``spent[P]``, ``spent_unmeasured`` and ``wall`` are the time of all ranks in the whole run,
    not only in the kept steps.
    All lengths are in seconds.

    Examples:
        >>> from eai_notebook.ledger.step_schema import empty_steps
        >>> rows = empty_steps(1000)
        >>> rows["begin"], rows["end"], rows["compute"] = 1.0, 1.5, 0.5
        >>> summary = Summary()
        >>> for piece in np.array_split(rows, 7):
        ...     summary.add(merge({0: piece}, {}))
        >>> summary.steps, summary.width, len(summary.starts), summary.wall
        (1000, 8, 125, 500.0)
    """

    def __init__(self) -> None:
        self.kept = merge({}, {})
        self.recent = merge({}, {})
        self.width = 1
        self.wall = 0.0
        self._spent: Floats = np.zeros(len(PARTS))
        self._known = np.zeros(len(PARTS), np.bool_)
        self._measured_wall = 0.0
        self._unmeasured_wall = 0.0
        self._striking_wall = 0.0
        self._count = 0
        self._last = -1
        self.clamped = 0
        """Rows whose stamps contradicted each other and were cut to fit."""
        self._every = 1
        self.longest: tuple[int, float] | None = None
        self._starts: Ints = np.zeros(0, np.int64)
        self._stops: Ints = np.zeros(0, np.int64)
        self._parts = _Sums((0, len(PARTS)))
        self._unmeasured = _Sums((0, 2))  # its time, and the share of the steps with parts
        self._samples = _Sums((0, 1))
        self._own = _Sums((0, 0))

    @property
    def ranks(self) -> tuple[int, ...]:
        """The ranks whose steps these are."""
        return self.kept.ranks

    @property
    def steps(self) -> int:
        """How many steps the run has taken."""
        return self._last + 1

    @property
    def spent(self) -> Floats:
        """The time of each part over all ranks and steps; NaN if it was never measured."""
        scale = 1.0
        if self._measured_wall > 0:
            scale += self._unmeasured_wall / self._measured_wall
        return np.where(self._known, scale * self._spent, np.nan)

    @property
    def spent_unmeasured(self) -> float:
        """The time of all ranks that is in no part, since nothing of its steps was measured."""
        if self._measured_wall > 0:
            return self._striking_wall
        return self._striking_wall + self._unmeasured_wall

    @property
    def starts(self) -> Ints:
        """The first step of each bucket."""
        return self._starts

    @property
    def stops(self) -> Ints:
        """The step after the last one of each bucket, measured or not."""
        return self._stops

    @property
    def parts(self) -> Floats:
        """The mean over ranks of each part in each bucket, in seconds.

        Over all of its steps, so that the parts and `unmeasured` add up to their mean length.
        """
        return self._parts.means_over(self._unmeasured)

    @property
    def unmeasured(self) -> Floats:
        """The mean time of each bucket that no part explains, in seconds."""
        return np.asarray(self._unmeasured.means()[:, 0])

    @property
    def samples(self) -> Floats:
        """The mean samples that all ranks together took in a step of each bucket."""
        return np.asarray(self._samples.means()[:, 0])

    @property
    def own(self) -> Floats:
        """The mean time that each rank spent on itself in each bucket, in seconds."""
        return np.asarray(self._own.means().T)

    def add(self, piece: Ledger) -> None:
        """Take the next steps; all pieces have the same ranks."""
        count = len(piece.steps)
        if count == 0:
            return
        if self._count == 0:
            self._own = _Sums((0, len(piece.ranks)))
        self._last = int(piece.steps[-1])
        self.wall += float(np.nansum(piece.wall))
        self.clamped += int(piece.clamped.sum())
        self._note_longest(piece)
        every = piece.steps
        measured, striking = self._news(piece)
        self._spend(piece, measured, striking)
        piece = piece.select(measured | striking)
        count = len(piece.steps)
        indices = np.arange(self._count, self._count + count)
        self._count += count
        if count:
            self._put_in_buckets(piece, indices, striking[measured | striking])
            self._keep(piece, indices)
        self._extend_buckets(every)

    def _news(self, piece: Ledger) -> tuple[Bools, Bools]:
        """Return which steps were measured, and which were not but took strikingly long.

        Before any was measured, nothing is known of what is usual: all count as striking.
        """
        measured = piece.which_measured()
        known = self.kept.measured() if self.kept.ranks else piece.measured()
        usual = np.median(mean(known.wall, axis=0)) if len(known.steps) else 0.0
        with np.errstate(invalid="ignore"):
            long = mean(piece.wall, axis=0) > STRIKING * usual
        return measured, np.asarray(long & ~measured)

    def _spend(self, piece: Ledger, measured: Bools, striking: Bools) -> None:
        known = piece.parts[:, measured]
        self._spent += np.nansum(known, axis=(0, 1))
        self._known |= np.isfinite(known).any(axis=(0, 1))
        self._measured_wall += float(np.nansum(piece.wall[:, measured]))
        self._striking_wall += float(np.nansum(piece.wall[:, striking]))
        self._unmeasured_wall += float(np.nansum(piece.wall[:, ~(measured | striking)]))

    def _note_longest(self, piece: Ledger) -> None:
        lengths = mean(piece.wall, axis=0)
        if np.isfinite(lengths).any():
            index = int(np.nanargmax(lengths))
            if self.longest is None or lengths[index] > self.longest[1]:
                self.longest = int(piece.steps[index]), float(lengths[index])

    def _extend_buckets(self, steps: Ints) -> None:
        """Have the buckets span all steps that came, also those between the measured ones."""
        if not len(self._starts):
            return
        at = np.maximum(np.searchsorted(self._starts, steps, side="right") - 1, 0)
        np.maximum.at(self._stops, at, steps + 1)

    def _put_in_buckets(self, piece: Ledger, indices: Ints, striking: Bools) -> None:
        while self._count > self.width * MOST_BUCKETS:
            self.width *= 2
            self._starts = self._starts[::2]
            if len(self._stops):
                pairs = np.arange(0, len(self._stops), 2)
                self._stops = np.maximum.reduceat(self._stops, pairs)
            self._parts.halve()
            self._unmeasured.halve()
            self._samples.halve()
            self._own.halve()
        at = indices // self.width
        new = indices % self.width == 0
        self._starts = np.concatenate([self._starts, piece.steps[new]])
        self._stops = np.concatenate([self._stops, piece.steps[new] + 1])
        self._parts.add(at, np.where(striking[:, None], np.nan, mean_parts(piece, axis=0)))
        length = np.where(striking, mean(piece.wall, axis=0), 0.0)
        self._unmeasured.add(at, np.stack([length, 1.0 - striking], axis=1))
        known = np.isfinite(piece.samples).any(axis=0)
        samples = np.where(known, np.nansum(piece.samples, axis=0), np.nan)
        self._samples.add(at, samples[:, None])
        measured = np.isfinite(piece.parts[:, :, MARKED]).any(axis=2)
        own = np.where(measured, np.nansum(piece.parts[:, :, OWN], axis=2), np.nan)
        self._own.add(at, own.T)

    def _keep(self, piece: Ledger, indices: Ints) -> None:
        most = min(MOST_STEPS_KEPT, MOST_ROWS_KEPT // len(piece.ranks))
        while self._count > self._every * most:
            self._every *= 2
            self.kept = self.kept.select(slice(None, None, 2))
        chosen = piece.select(indices % self._every == 0)
        self.kept = append(self.kept, chosen) if self.kept.ranks else chosen
        latest = piece.select(slice(-RECENT_STEPS, None))
        both = append(self.recent, latest) if self.recent.ranks else latest
        self.recent = both.select(slice(-RECENT_STEPS, None))


class _Sums:
    """Sums and counts of what was measured, one row a bucket."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self._total: Floats = np.zeros(shape)
        self._known: Floats = np.zeros(shape)

    def add(self, at: Ints, values: Floats) -> None:
        """Add rows of values ``[n, C]`` to the buckets `at`, which never decrease."""
        missing = int(at[-1]) + 1 - len(self._total)
        if missing > 0:
            room = np.zeros((missing, self._total.shape[1]))
            self._total = np.concatenate([self._total, room])
            self._known = np.concatenate([self._known, room])
        first = np.flatnonzero(np.diff(at, prepend=at[0] - 1))
        known = np.isfinite(values)
        self._total[at[first]] += np.add.reduceat(np.where(known, values, 0.0), first, axis=0)
        self._known[at[first]] += np.add.reduceat(known.astype(np.float64), first, axis=0)

    def halve(self) -> None:
        """Join neighbouring buckets."""
        every_second = np.arange(0, len(self._total), 2)
        if len(every_second):
            self._total = np.add.reduceat(self._total, every_second, axis=0)
            self._known = np.add.reduceat(self._known, every_second, axis=0)

    def means(self) -> Floats:
        """Return the mean of each bucket, NaN where nothing was measured."""
        return np.asarray(
            np.where(self._known > 0, self._total / np.maximum(self._known, 1), np.nan)
        )

    def means_over(self, rows: _Sums) -> Floats:
        """Return the sums over as many values as `rows` has, NaN where nothing was measured."""
        count = np.maximum(rows._known[:, :1], 1)
        return np.asarray(np.where(self._known > 0, self._total / count, np.nan))
