"""`Plan`: batch size, steps, seed and options of an epoch, fixed before it begins."""

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
"""Parts whose rows are mixed with each other; it decides the order, as the seed does.

16 parts are about 80,000 rows of Criteo's log."""


@dataclass(frozen=True)
class Plan:
    """Everything that decides an epoch: the same plan and epoch number give the same batches.

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
        """A digest that is equal for plans that deliver the same batches from unchanged files."""
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
