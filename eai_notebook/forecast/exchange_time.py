"""The time of an exchange on N ranks: what one run measured of it, replayed.

Gradients get ready in groups, one after another, and each group is exchanged once the one before has
been. A ring moves 2 (N - 1) / N times a group's bytes over each link, in 2 (N - 1) messages. When groups
are ready the run has measured; what a link carries and what a message takes was measured when the group
of ranks started. What is left of the run's exchange is agreement: ranks look for work in turns.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from eai_notebook.ledger.arrays import Floats

LATENCY_S: Final = (20e-6, 60e-6, 300e-6)
"""What a message takes beside its bytes where it was not measured: at least, usually and at most."""

WINDOW: Final = (0.15, 0.5, 0.65)
"""The share of a step's computing in which groups of gradients get ready, where it was not measured.

The backward pass is two thirds of it; how much of that lies behind the first group depends on the model.
"""

GROUPS: Final = 4
"""Gradients leave in so many groups of about as many numbers."""

_HALVINGS: Final = 14

_TURNS: Final = np.random.default_rng(20_260_601).permuted(
    np.tile((np.arange(64)[:, None] + 0.5) / 64, GROUPS), axis=0
)
"""Shares of a turn, ``[D, G]``: each group meets every share once."""


@dataclass(frozen=True)
class Unknown:
    """What a run may not say: `LATENCY_S`, `WINDOW`, and how the rest of an exchange behaves.

    ``serial`` is the share of the agreement that each group takes anew, whatever was before it; the
    rest goes on while the group before is on its way. ``bytes_scale`` and ``message_scale`` are how much
    longer bytes and messages take than was measured when the group started.
    """

    latency: float = LATENCY_S[1]
    window: float = WINDOW[1]
    serial: float = 0.0
    bytes_scale: float = 1.0
    message_scale: float = 1.0


@dataclass(frozen=True)
class Exchange:
    """What a run showed: its ``ranks``, the ``gradients`` in bytes, and seconds a step.

    ``exposed`` was waited for after the last gradient, ``hidden`` went on before. ``link`` is what the
    slowest link carries, bytes/s, ``latency`` what a message takes beside its bytes, s, ``leads`` how long
    before the last group each group was ready, as shares of the step's computing; None where that is
    not known. ``compute`` is how long ranks compute.
    """

    ranks: int
    gradients: float
    exposed: float
    hidden: float
    link: float | None
    compute: float = 0.0
    latency: float | None = None
    leads: tuple[float, ...] | None = None

    @property
    def whole(self) -> float:
        """Seconds from the first byte to the last."""
        return self.exposed + self.hidden

    def wire_time(self, scale: float = 1.0) -> float:
        """Return the seconds that the bytes took on the link; all of it where no link is known."""
        if self.link is None:
            return self.whole
        return min(scale * ring_bytes(self.gradients, self.ranks) / self.link, self.whole)


def ring_bytes(gradients: float, ranks: int) -> float:
    """Return the bytes that leave a rank of a ring.

    Examples:
        >>> ring_bytes(8e6, 2), ring_bytes(8e6, 4)
        (8000000.0, 12000000.0)
    """
    return gradients * 2 * (ranks - 1) / ranks


@dataclass(frozen=True)
class Replay:
    """A run's exchange taken apart, so that it can be put together for other ranks and links.

    ``leads`` are seconds before the last group, ``wire`` what all bytes took, ``latency`` what a message
    takes. ``agreement`` is what a group waits for the ranks to agree on it, once `unknown` is given.
    """

    seen: Exchange
    unknown: Unknown

    @cached_property
    def leads(self) -> tuple[float, ...]:
        """Return how long before the last group each group is ready, in seconds."""
        seen = self.seen
        if not seen.hidden:
            return (0.0,) * GROUPS
        if seen.leads is not None:
            return tuple(lead * seen.compute for lead in seen.leads)
        # Where nothing says when groups were ready, the exchange went on for as long at least.
        window = max(self.unknown.window * seen.compute, seen.hidden)
        return tuple(window * (GROUPS - 1 - group) / (GROUPS - 1) for group in range(GROUPS))

    @cached_property
    def wire(self) -> float:
        """Return the seconds that the bytes took."""
        return self.seen.wire_time(self.unknown.bytes_scale)

    @cached_property
    def latency(self) -> float:
        """Return the seconds that a message takes; no more than the run has left for it."""
        known = self.unknown.latency if self.seen.latency is None else self.seen.latency
        messages = 2 * (self.seen.ranks - 1) * len(self.leads)
        return min(self.unknown.message_scale * known, (self.seen.whole - self.wire) / messages)

    @cached_property
    def agreement(self) -> float:
        """Return what a group waits for agreement, in the mean, so that the run's own exchange comes out."""
        low, high = 0.0, self.seen.whole
        if self._taken(self.seen.ranks, self.wire, 0.0) >= self.seen.whole:
            return 0.0
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            if self._taken(self.seen.ranks, self.wire, middle) < self.seen.whole:
                low = middle
            else:
                high = middle
        return low

    @cached_property
    def missed(self) -> float:
        """Return what the replay of the run itself misses of what was waited for."""
        return self.seen.exposed - self.exposed(self.seen.ranks, self.wire)

    def exposed(self, ranks: int, wire: float) -> float:
        """Return the seconds that nothing hides, on so many ranks, where the bytes take ``wire``."""
        _, last = self._spans(ranks, wire, self.agreement)[-1]
        return float(np.maximum(last, 0.0).mean())

    def _spans(self, ranks: int, wire: float, agreement: float) -> list[tuple[float, Floats]]:
        """Return when each group is there and when it is exchanged, ``[D]`` in steps that chance draws.

        0 is when the last group is there. Ranks look for work in turns, so that a group waits for any
        share of one.
        """
        spans = []
        free = np.full(len(_TURNS), -np.inf)
        each = 2 * (ranks - 1) * self.latency + wire / len(self.leads)
        serial = self.unknown.serial * agreement
        for group, lead in enumerate(self.leads):
            turn = _TURNS[:, group % _TURNS.shape[1]]
            free = np.maximum(free, -lead + 2 * (agreement - serial) * turn) + serial + each
            spans.append((-lead, free))
        return spans

    def _taken(self, ranks: int, wire: float, agreement: float) -> float:
        """Return how long at least one group is there and not exchanged, in the mean."""
        taken, last = np.zeros(len(_TURNS)), np.full(len(_TURNS), -np.inf)
        for begin, end in self._spans(ranks, wire, agreement):
            taken += np.maximum(end - np.maximum(begin, last), 0.0)
            last = np.maximum(last, end)
        return float(taken.mean())


def exposed(
    replay: Replay, ranks: int, *, bytes_factor: float = 1.0, link_factor: float = 1.0
) -> float:
    """Return the seconds of an exchange of ``ranks`` ranks that nothing hides.

    ``bytes_factor`` are the bytes of another wire format, in those of the run's, ``link_factor``
    what the link carries, in what it carried. What the replay of
    the run itself misses of what was measured is carried over.

    Examples:
        >>> seen = Exchange(2, 4e6, exposed=0.045, hidden=0.0, link=100e6)
        >>> replay, free = Replay(seen, Unknown()), Replay(seen, Unknown(latency=0.0))
        >>> round(exposed(replay, 2), 4), round(exposed(free, 4), 4)
        (0.045, 0.065)
        >>> round(exposed(replay, 2, bytes_factor=0.5), 3), exposed(replay, 1)
        (0.025, 0.0)
    """
    if ranks == 1:
        return 0.0
    seen = replay.seen
    moved = ring_bytes(1.0, ranks) / ring_bytes(1.0, seen.ranks) * bytes_factor / link_factor
    return max(replay.exposed(ranks, replay.wire * moved) + replay.missed, 0.0)
