"""`RowCounts`: all ranks agree on the number of steps before the first one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from eai_notebook import collective
from eai_notebook.bookkeeping import say
from eai_notebook.errors import EaiError

if TYPE_CHECKING:
    from eai_notebook.io.part import Source
    from eai_notebook.io.pipeline.epoch_plan import Uneven


@dataclass(frozen=True)
class RowCounts:
    """The number of rows on each rank, and the number of files."""

    rows: tuple[int, ...]
    files: int

    @classmethod
    def of_all_ranks(cls, source: Source, *, together: bool) -> RowCounts:
        """Gather the counts of all ranks if they read `together`, else only this rank's.

        Raises:
            EaiError: Ranks see files of different sizes.
        """
        if not together or collective.size() == 1:
            return cls((source.rows,), source.files)
        table = collective.gather_numpy(np.array([source.rows, source.total_bytes], np.int64))
        for other, size in enumerate(table[:, 1].tolist()):
            if size != table[0, 1]:
                raise EaiError(
                    f"rank 0 found {table[0, 1]:,} bytes of input, rank {other} found {size:,}",
                    "give all hosts the same files, completely written",
                    code="ranks-see-different-files",
                )
        return cls(tuple(table[:, 0].tolist()), source.files)

    def steps(self, batch_size: int, uneven: Uneven, *, whole: bool) -> int:
        """Return the number of steps of every rank; with `whole`, the last batch may be smaller.

        Raises:
            EaiError: A rank has too few rows for one batch, or none to repeat.

        Examples:
            >>> RowCounts((100, 70), 2).steps(30, "drop", whole=False)
            2
            >>> RowCounts((100, 70), 2).steps(30, "pad", whole=False)
            4
        """
        fewest = min(self.rows)
        if whole or uneven != "drop":
            steps = -(-max(self.rows) // batch_size) if fewest else 0
        else:
            steps = fewest // batch_size
        if steps == 0:
            raise EaiError(
                f"rank {self.rows.index(fewest)} has {fewest} rows of {sum(self.rows)} in "
                f"{self.files} files, fewer than one batch of {batch_size}",
                "use a smaller batch_size, fewer ranks, or more data",
                code="too-few-rows",
            )
        return steps

    def remainder_line(self, batch_size: int, steps: int, uneven: Uneven) -> str | None:
        """Return a line about the rows that an epoch drops, repeats or pads; None if there are none.

        Examples:
            >>> RowCounts((100, 70), 2).remainder_line(30, 4, "repeat")
            '70 rows are read a second time in each epoch, so that every rank takes 4 full steps'
        """
        total = sum(self.rows)
        missing = steps * batch_size * len(self.rows) - total
        if missing < 0:
            return (
                f"{-missing:,} of {total:,} rows do not fill a batch on every rank and are "
                f"left out of each epoch ({-100 * missing / total:.1f} %)"
            )
        if missing == 0:
            return None
        if uneven == "pad":
            return (
                f"{missing:,} rows of weight 0 fill up the last batches of each epoch, so that "
                f"every rank takes {steps:,} full steps"
            )
        return (
            f"{missing:,} rows are read a second time in each epoch, so that every rank takes "
            f"{steps:,} full steps"
        )


def print_step_agreement(line: str | None) -> None:
    """Print the line once, on rank 0."""
    if line is not None and collective.rank() == 0:
        say(line)
