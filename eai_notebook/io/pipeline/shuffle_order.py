"""`ShuffleOrder`: the order of rows as a function of seed, rank and epoch.

A rank's parts are read in random order, and the rows of a window of parts are shuffled. Rows that do
not fill a batch at the end of a window go into the next one. Every window has its own random
generator, so reading can begin within an epoch: its position follows from the numbers of rows alone.
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

MAX_WINDOW_BYTES: Final = 256 << 20
"""Memory of the rows in a window; the parts that are read ahead need as much again."""


@dataclass(frozen=True)
class Start:
    """The position at which reading begins for a step.

    Attributes:
        window: The window with the step's first new row.
        rest: Rows left over from earlier windows: ``[rows, 2]``, part and row in it.
        passed: Batches of that window before the step.
    """

    window: int
    rest: NDArray[np.int64]
    passed: int


@dataclass(frozen=True)
class ShuffleOrder:
    """The order of one epoch; window numbers continue when all parts are read again (a lap)."""

    plan: Plan
    epoch: int

    @property
    def once(self) -> bool:
        """Whether every part is read only once."""
        return self.plan.whole or self.plan.uneven == "pad"

    @cached_property
    def width(self) -> int:
        """Parts in a window: fewer if they are large, as images are."""
        if not self.plan.shuffle:
            return 1
        source = self.plan.source
        part = max(source.row_bytes * source.rows // max(len(source.parts), 1), 1)
        return max(1, min(epoch_plan.SHUFFLE_WINDOW, MAX_WINDOW_BYTES // part))

    @property
    def windows(self) -> int:
        """Windows in one lap over all parts."""
        return -(-len(self.plan.source.parts) // self.width)

    @cached_property
    def last_window(self) -> int:
        """The window in which the last step ends, if no row is bad; later ones are not read."""
        rows = np.array([part.rows for part in self.plan.source.parts], np.int64)
        wanted = self.plan.steps * self.plan.batch_size
        if self.once and wanted >= rows.sum():
            return self.windows - 1
        lap, left = divmod(wanted - 1, int(rows.sum()))
        index = int(np.searchsorted(np.cumsum(rows[self.lap(lap)]), left, side="right"))
        return lap * self.windows + index // self.width

    def lap(self, number: int) -> NDArray[np.int64]:
        """Return the parts of a lap, in order."""
        count = len(self.plan.source.parts)
        return self._rng(0, number).permutation(count) if self.plan.shuffle else np.arange(count)

    def parts(self, window: int) -> NDArray[np.int64]:
        """Return the parts of a window; windows are numbered over all laps."""
        lap, index = divmod(window, self.windows)
        return self.lap(lap)[index * self.width : (index + 1) * self.width]

    def permutation_of(self, window: int, rows: int) -> NDArray[np.int64]:
        """Return the order of a window's rows, where rows left over from before come first."""
        return self._rng(1, window).permutation(rows) if self.plan.shuffle else np.arange(rows)

    def start(self, step: int) -> Start:
        """Return the position at which reading begins for `step`, if no row is bad."""
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
            rest = rows[self.permutation_of(window, len(rows))[whole * size :]]
            made += whole
            window += 1

    def _rng(self, *stream: int) -> np.random.Generator:
        return np.random.default_rng([self.plan.seed, self.plan.rank, self.epoch, *stream])


def _rows_of(parts: NDArray[np.int64], sizes: Sequence[int]) -> NDArray[np.int64]:
    """Return part and index of each row of some parts, ``[rows, 2]``."""
    counts = [sizes[part] for part in parts.tolist()]
    indices = [np.arange(count) for count in counts]
    return np.stack([np.repeat(parts, counts), np.concatenate(indices)], axis=1)
