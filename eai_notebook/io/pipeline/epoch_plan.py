"""`Plan`: source, batch size, steps, seed and options of an epoch."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from eai_notebook.io.part import Source

OnError = Literal["raise", "skip"]
Uneven = Literal["drop", "pad", "repeat"]
Size = int | Literal["auto"]

SHUFFLE_WINDOW: Final = 16
"""Parts whose rows are shuffled together; like the seed, it determines the order.

16 parts are about 80,000 rows of Criteo's log."""


@dataclass(frozen=True)
class Plan:
    """Everything that determines an epoch: equal plan and epoch number give equal batches.

    Attributes:
        source: The rows.
        batch_size: Rows in a batch.
        steps: Batches in an epoch.
        shuffle: Whether rows are shuffled.
        seed: Determines the order, together with `rank` and the epoch.
        rank: The rank that reads these rows.
        on_error: ``"raise"`` at a bad row, or ``"skip"`` it.
        max_skipped: The share of this rank's rows that may be skipped.
        uneven: ``"drop"``, ``"pad"`` or ``"repeat"`` rows that do not fill a batch on every rank.
        whole: Every row is read exactly once, and the last batch may be smaller.
        readers: Parts that are loaded in parallel, or ``"auto"``.
        queue: Batches that are prepared ahead, or ``"auto"``.
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
        """A digest that is equal for plans with the same batches, if the files are unchanged."""
        digest = hashlib.sha256()
        facts = (
            self.batch_size,
            self.steps,
            self.shuffle,
            self.seed,
            self.uneven,
            SHUFFLE_WINDOW,
        )
        digest.update(repr((*facts, self.on_error, self.whole)).encode())
        for part in self.source.parts:
            digest.update(f"\n{part.name} {part.rows}".encode())
        return digest.hexdigest()[:16]
