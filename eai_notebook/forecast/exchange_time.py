"""The time of an exchange on N ranks, by what one run shows of its links.

A ring moves 2 (N - 1) / N times the gradients over each link, in 2 (N - 1) messages of each fused
block; before it the ranks agree on what to exchange. One run says how long both take together: the
bytes' share follows from the link, the rest is agreement, which stays as it is, or latency, which
grows with the messages. Which, a run of one size cannot say: the truth is between.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

OVERHEAD_GROWS: Final = (0.0, 0.3)
"""The share of what is not bytes that grows with the messages: at least and at most.

Most of it is the time until the ranks look for work again, which does not."""

USUALLY: Final = 0.1
"""The share that a forecast assumes."""

GROUPS: Final = 4
"""Gradients leave in so many groups; the last one has nothing to hide behind."""


@dataclass(frozen=True)
class Exchange:
    """What a run showed: its ``ranks``, the ``gradients`` in bytes, and seconds a step.

    ``exposed`` was waited for after the last gradient, ``hidden`` went on before. ``link`` is what the
    slowest link carries, bytes/s, None if that is not known.
    """

    ranks: int
    gradients: float
    exposed: float
    hidden: float
    link: float | None

    @property
    def whole(self) -> float:
        """Seconds from the first byte to the last."""
        return self.exposed + self.hidden

    def wire_time(self) -> float:
        """Return the seconds that the bytes took on the link; all of it where no link is known."""
        if self.link is None:
            return self.whole
        return min(ring_bytes(self.gradients, self.ranks) / self.link, self.whole)


def ring_bytes(gradients: float, ranks: int) -> float:
    """Return the bytes that leave a rank of a ring.

    Examples:
        >>> ring_bytes(8e6, 2), ring_bytes(8e6, 4)
        (8000000.0, 12000000.0)
    """
    return gradients * 2 * (ranks - 1) / ranks


def exposed(
    seen: Exchange, ranks: int, *, bytes_factor: float = 1.0, link_factor: float = 1.0, grows: float
) -> float:
    """Return the seconds of an exchange of ``ranks`` ranks that nothing hides.

    ``bytes_factor`` are the bytes of another wire format, in those of the run's, ``link_factor``
    what the link carries, in what it carried; ``grows`` as in `OVERHEAD_GROWS`.

    Examples:
        >>> seen = Exchange(2, 4e6, exposed=0.045, hidden=0.0, link=100e6)
        >>> round(exposed(seen, 2, grows=0.5), 4), round(exposed(seen, 4, grows=0.0), 4)
        (0.045, 0.065)
        >>> round(exposed(seen, 2, bytes_factor=0.5, grows=0.0), 4), exposed(seen, 1, grows=0.0)
        (0.025, 0.0)
    """
    if ranks == 1:
        return 0.0
    wire = seen.wire_time()
    moved = ring_bytes(1.0, ranks) / ring_bytes(1.0, seen.ranks) * bytes_factor / link_factor
    messages = (ranks - 1) / (seen.ranks - 1)
    rest = (seen.whole - wire) * (1 - grows + grows * messages)
    whole = wire * moved + rest
    # What was hidden went on while gradients were still being computed: for no longer than that.
    hidden = min(seen.hidden, whole * (1 - 1 / GROUPS) if seen.hidden else 0.0)
    return whole - hidden
