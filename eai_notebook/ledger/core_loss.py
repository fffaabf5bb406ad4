"""Time lost to a lack of cores, by what it can explain: an estimate with bounds.

A part that needs a processor takes the inverse of the share that its threads get as long. That
holds for what a rank computes. An exchange needs a processor only to copy its bytes and to agree;
what it waits for the link, it waits for with cores or without. So of `transfer` no more is put
down to cores than the needs of such an exchange, stretched. How large these are is known within
bounds only, and where the answer depends on them, it is unknown.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from eai_notebook.ledger.arrays import mean
from eai_notebook.ledger.parts import COMPUTE, INPUT, OWN, TRANSFER

if TYPE_CHECKING:
    from eai_notebook.ledger.cores import Shortage
    from eai_notebook.ledger.facts import Facts

AGREEMENT_S: Final = (0.5e-3, 3e-3)
"""What ranks take to agree on an exchange with cores of their own, at least and at most."""

MEMORY: Final = (4e9, 0.3e9)
"""Bytes a second that an exchange on one host moves with cores of its own, at most and at least."""

LINK: Final = 0.1e9
"""The least between hosts, where the link was not measured."""

SLOWED: Final = 2.0
"""With a link that was measured, an exchange takes at most so many times what its bytes take."""

RULES: Final = 0.5
"""A part that is at least this share of a step is long for a reason of its own."""


@dataclass(frozen=True)
class CoreLoss:
    """Seconds a step that go by without a core: in what ranks do themselves, and in exchanges.

    ``transfer`` has bounds, the least and the most that a lack of cores explains of it.
    """

    own: float
    transfer: tuple[float, float]

    @property
    def expected(self) -> float:
        """The estimate: what is sure."""
        return self.own + self.transfer[0]


def core_loss(facts: Facts, lack: Shortage) -> CoreLoss:
    """Return what a step loses to a lack of cores; no more than its threads waited for one.

    Of that waiting only what is for others' processes counts.

    What a rank sleeps through, such as waiting for files, needs no core. A part of its own that
    rules the step is long for a reason of its own.
    """
    step, transfer = facts.step, float(np.nan_to_num(facts.part(TRANSFER)))
    compute = float(np.nan_to_num(facts.part(COMPUTE)))
    small = np.nan_to_num([facts.part(part) for part in OWN if part not in (INPUT, COMPUTE)])
    busy = compute + float(small[small < RULES * step].sum())
    own = lack.theirs * min((1 - lack.share) * busy, lack.delay * step)

    def of_transfer(needed: float) -> float:
        stretched = needed / max(lack.exchange, 1e-3)
        lost = (1 - lack.exchange) * min(transfer, stretched)
        return min(lost, lack.exchange_delay * step)

    least, most = _needs(facts)
    # For sure no more than strangers' part of the waiting; at most they are what all of it is for.
    return CoreLoss(own, (lack.theirs * of_transfer(least), of_transfer(most)))


def _needs(facts: Facts) -> tuple[float, float]:
    """Return how long an exchange takes on ranks with cores of their own, at least and at most."""
    moved = float(np.nan_to_num(mean(facts.typical.bytes)))
    link, unknown = facts.context.link, MEMORY[1] if facts.context.on_one_host else LINK
    slow = unknown if link is None else link / SLOWED
    # A wire needs no processor: at least the bytes are copied.
    return AGREEMENT_S[0] + moved / MEMORY[0], AGREEMENT_S[1] + moved / slow
