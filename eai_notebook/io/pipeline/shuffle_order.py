"""The shuffle order: a function of seed, rank and epoch alone.

A rank's parts are drawn in random order, and the rows of a window of them are mixed. What
does not fill a batch at a window's end is mixed with the next window. Every window draws from
its own generator, so that reading can begin in the middle of an epoch: the rows that come
next follow from the numbers of rows, without the batches that came before.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

import numpy as np

from eai_notebook.io.pipeline import epoch_plan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from eai_notebook.io.pipeline.epoch_plan import Plan

MOST_BYTES: Final = 256 << 20
"""Of the rows that are mixed; there are as many again on their way."""


@dataclass(frozen=True)
class Start:
    """Where to begin for a given step.

    Attributes:
        window: The window that holds the step's first new row.
        rest: Rows that the windows before have left over: ``[rows, 2]``, part and row in it.
        passed: Batches of that window that come before the step.
    """

    window: int
    rest: NDArray[np.int64]
    passed: int


@dataclass(frozen=True)
class ShuffleOrder:
    """The order of one epoch; its windows are numbered on through as many laps as needed."""

    plan: Plan
    epoch: int

    @property
    def once(self) -> bool:
        """Whether no part is read a second time."""
        return self.plan.whole or self.plan.uneven == "pad"

    @cached_property
    def width(self) -> int:
        """Parts in a window: fewer where their rows are large, as images are."""
        if not self.plan.shuffle:
            return 1
        source = self.plan.source
        part = max(source.row_bytes * source.rows // max(len(source.parts), 1), 1)
        return max(1, min(epoch_plan.SHUFFLE_WINDOW, MOST_BYTES // part))

    @property
    def windows(self) -> int:
        """Windows in one lap over all parts."""
        return -(-len(self.plan.source.parts) // self.width)

    @cached_property
    def last_window(self) -> int:
        """The window that the last step ends in, if no row is bad: what follows is not read."""
        rows = np.array([part.rows for part in self.plan.source.parts], np.int64)
        wanted = self.plan.steps * self.plan.batch_size
        if self.once and wanted >= rows.sum():
            return self.windows - 1
        lap, left = divmod(wanted - 1, int(rows.sum()))
        place = int(np.searchsorted(np.cumsum(rows[self.lap(lap)]), left, side="right"))
        return lap * self.windows + place // self.width

    def lap(self, number: int) -> NDArray[np.int64]:
        """Return the parts of a lap, in order."""
        count = len(self.plan.source.parts)
        return self._rng(0, number).permutation(count) if self.plan.shuffle else np.arange(count)

    def parts(self, window: int) -> NDArray[np.int64]:
        """Return the parts of a window, counted over all laps."""
        lap, place = divmod(window, self.windows)
        return self.lap(lap)[place * self.width : (place + 1) * self.width]

    def mixed(self, window: int, rows: int) -> NDArray[np.int64]:
        """Return the order of a window's rows, those left over before it in front."""
        return self._rng(1, window).permutation(rows) if self.plan.shuffle else np.arange(rows)

    def start(self, step: int) -> Start:
        """Return where reading begins for `step`, if no row is bad."""
        size = self.plan.batch_size
        sizes = [part.rows for part in self.plan.source.parts]
        rest = np.empty((0, 2), np.int64)
        made, window = 0, 0
        while True:
            rows = np.concatenate([rest, _rows_of(self.parts(window), sizes)])
            whole = len(rows) // size
            last = window % self.windows == self.windows - 1
            if made + whole > step or (last and self.once):
                return Start(window, rest, step - made)
            rest = rows[self.mixed(window, len(rows))[whole * size :]]
            made += whole
            window += 1

    def _rng(self, *stream: int) -> np.random.Generator:
        return np.random.default_rng([self.plan.seed, self.plan.rank, self.epoch, *stream])


def _rows_of(parts: NDArray[np.int64], sizes: Sequence[int]) -> NDArray[np.int64]:
    """Return part and place of each row of some parts, ``[rows, 2]``."""
    counts = [sizes[part] for part in parts.tolist()]
    places = [np.arange(count) for count in counts]
    return np.stack([np.repeat(parts, counts), np.concatenate(places)], axis=1)
