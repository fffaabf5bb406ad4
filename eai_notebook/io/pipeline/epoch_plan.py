"""`Plan`: batch size, steps, seed and options of an epoch, fixed before it begins."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from eai_notebook.io.part import Source

OnError = Literal["raise", "skip"]
Uneven = Literal["drop", "pad", "repeat"]
Size = int | Literal["auto"]


@dataclass(frozen=True)
class Plan:
    """What a pass delivers: the same plan and epoch number give the same batches.

    Attributes:
        source: Where the rows come from.
        batch_size: Rows in a batch.
        steps: Batches in an epoch.
        shuffle: Whether rows are mixed.
        seed: What decides the order, together with `rank` and the epoch.
        rank: Whose share this is.
        on_error: What to do at a bad row.
        max_skipped: The share of this rank's rows that may be left out.
        uneven: What fills the steps of a rank that runs out of rows.
        whole: The last batch may be smaller, and no row is left out or read twice.
        readers: Parts in flight at once, or ``"auto"``.
        queue: Batches kept ready, or ``"auto"``.
    """

    source: Source
    batch_size: int
    steps: int
    shuffle: bool = True
    seed: int = 0
    rank: int = 0
    on_error: OnError = "raise"
    max_skipped: float = 0.01
    uneven: Uneven = "drop"
    whole: bool = False
    readers: Size = "auto"
    queue: Size = "auto"

    @property
    def identity(self) -> str:
        """Tell plans apart that deliver other batches; equal for the same files, unchanged."""
        told = hashlib.sha256()
        # Shuffling's width is part of the order, too; it is looked up late, like there.
        from eai_notebook.io.pipeline import shuffle_order

        facts = (
            self.batch_size,
            self.steps,
            self.shuffle,
            self.seed,
            self.uneven,
            shuffle_order.WINDOW,
        )
        told.update(repr((*facts, self.on_error, self.whole)).encode())
        for part in self.source.parts:
            told.update(f"\n{part.name} {part.rows}".encode())
        return told.hexdigest()[:16]
