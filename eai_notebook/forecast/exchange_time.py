"""The time of an exchange on N ranks, by what one run shows of its links.

A ring moves 2 (N - 1) / N times the gradients over each link, in 2 (N - 1) messages of each fused
block; before it the ranks agree on what to exchange. One run says how long both take together: the
bytes' share follows from the link, the rest is agreement, which stays as it is, or latency, which
grows with the messages. Which, a run of one size cannot say: the latency of a message is assumed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

LATENCY_S: Final = (20e-6, 60e-6, 120e-6)
"""What a message takes beside its bytes, in seconds: at least, usually and at most."""

WINDOW: Final = (0.35, 0.5, 0.6)
"""The share of a step's computing in which groups of gradients get ready, one after another.

The backward pass is two thirds of it, and the first group is there after a quarter of that."""

SATURATED: Final = 1.5
"""An exchange that is exposed for less than so many times its last group keeps up with the computing."""

GROUPS: Final = 4
"""Gradients leave in so many groups; the last one has nothing to hide behind."""


@dataclass(frozen=True)
class Unknown:
    """What a run does not say: `LATENCY_S` and `WINDOW`."""

    latency: float = LATENCY_S[1]
    window: float = WINDOW[1]


@dataclass(frozen=True)
class Exchange:
    """What a run showed: its ``ranks``, the ``gradients`` in bytes, and seconds a step.

    ``exposed`` was waited for after the last gradient, ``hidden`` went on before. ``link`` is what the
    slowest link carries, bytes/s, None if that is not known. ``compute`` is how long ranks compute.
    """

    ranks: int
    gradients: float
    exposed: float
    hidden: float
    link: float | None
    compute: float = 0.0

    @property
    def whole(self) -> float:
        """Seconds from the first byte to the last."""
        return self.exposed + self.hidden

    def wire_time(self) -> float:
        """Return the seconds that the bytes took on the link; all of it where no link is known."""
        if self.link is None:
            return self.whole
        return min(ring_bytes(self.gradients, self.ranks) / self.link, self.whole)

    def window(self, share: float) -> float:
        """Return the seconds of computing that an exchange can go on in, whatever its length.

        ``share`` is that of `WINDOW`.
        Where the exchange keeps up with the computing, more of it would be hidden if it took
        longer; where it does not, what is hidden is all that can be.
        """
        if not self.hidden:
            return 0.0
        keeps_up = self.exposed < SATURATED * self.whole / GROUPS
        return max(self.hidden, share * self.compute) if keeps_up else self.hidden


def ring_bytes(gradients: float, ranks: int) -> float:
    """Return the bytes that leave a rank of a ring.

    Examples:
        >>> ring_bytes(8e6, 2), ring_bytes(8e6, 4)
        (8000000.0, 12000000.0)
    """
    return gradients * 2 * (ranks - 1) / ranks


def exposed(
    seen: Exchange,
    ranks: int,
    *,
    bytes_factor: float = 1.0,
    link_factor: float = 1.0,
    unknown: Unknown | None = None,
) -> float:
    """Return the seconds of an exchange of ``ranks`` ranks that nothing hides.

    ``bytes_factor`` are the bytes of another wire format, in those of the run's, ``link_factor``
    what the link carries, in what it carried; ``unknown`` is what is assumed.

    Examples:
        >>> seen = Exchange(2, 4e6, exposed=0.045, hidden=0.0, link=100e6)
        >>> round(exposed(seen, 2), 4), round(exposed(seen, 4, unknown=Unknown(latency=0.0)), 4)
        (0.045, 0.065)
        >>> round(exposed(seen, 2, bytes_factor=0.5), 4), exposed(seen, 1)
        (0.025, 0.0)
    """
    if ranks == 1:
        return 0.0
    unknown = unknown or Unknown()
    wire = seen.wire_time()
    moved = ring_bytes(1.0, ranks) / ring_bytes(1.0, seen.ranks) * bytes_factor / link_factor
    rest = seen.whole - wire
    grows = min(2 * (seen.ranks - 1) * GROUPS * unknown.latency, rest)
    whole = wire * moved + rest + grows * ((ranks - 1) / (seen.ranks - 1) - 1)
    # The last group of gradients has nothing to hide behind.
    return max(whole - seen.window(unknown.window), whole / GROUPS) if seen.hidden else whole
