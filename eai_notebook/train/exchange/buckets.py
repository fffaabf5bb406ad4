"""Group gradients into buckets and order them.

Every exchange costs a look of Horovod's (a millisecond) and a trip to rank 0 whatever its
size, so small gradients share one. A large message waits for its last gradient and cannot
be coded while it travels, so large ones are cut.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from eai_notebook.train.recording import graph_timestamps

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

SMALL: Final = 1 << 13
"""Numbers up to which a gradient counts as small: it stays fp32, and shares a message."""

PIECE: Final = 1 << 21
"""Numbers at most in a coded message (8 MB as fp32): one is coded while another travels."""


@dataclass(frozen=True)
class Slice:
    """A stretch of a flat gradient: its position in the list of gradients, first and last + 1."""

    position: int
    first: int
    last: int

    @property
    def length(self) -> int:
        """How many numbers it has."""
        return self.last - self.first


@dataclass
class Group:
    """Gradients that are stamped together, by their positions.

    ``whole`` travel in fp32; ``coded`` are messages of slices; ``sparse`` are rows.
    """

    whole: list[int] = field(default_factory=list)
    coded: list[list[Slice]] = field(default_factory=list)
    sparse: list[int] = field(default_factory=list)

    @property
    def positions(self) -> list[int]:
        """The group's gradients, each once, in order."""
        coded = {piece.position for message in self.coded for piece in message}
        return sorted({*self.whole, *coded, *self.sparse})


def plan(lengths: Mapping[int, int | None], rows: Collection[int], *, narrow: bool) -> list[Group]:
    """Return the groups in the order in which the backward pass makes their gradients.

    The last variable's gradient is ready first. Sparse gradients are a group of their own:
    they belong to a model's first layers, and would hold up their neighbours.

    Args:
        lengths: Numbers in each dense gradient by its position, None where unknown.
        rows: Places of the sparse ones.
        narrow: Whether large dense ones are coded.

    Examples:
        >>> [group.positions for group in plan({1: 10, 2: 10}, [0], narrow=False)]
        [[2], [1], [0]]
        >>> [[piece.length for piece in m] for m in plan({0: 3 << 20}, [], narrow=True)[0].coded]
        [[1572864], [1572864]]
    """
    most = graph_timestamps.GROUPS - bool(rows)
    backward = sorted(lengths, reverse=True)
    groups = []
    for positions in _runs(backward, [lengths[position] or 0 for position in backward], most):
        large = [position for position in positions if narrow and (lengths[position] or 0) > SMALL]
        whole = sorted(set(positions) - set(large))
        groups.append(
            Group(whole, _messages([(position, lengths[position] or 0) for position in large]))
        )
    return [*groups, *([Group(sparse=sorted(rows))] if rows else [])]


def _runs(positions: list[int], lengths: list[int], most: int) -> list[list[int]]:
    """Cut `positions` into at most `most` runs of about equally many numbers."""
    if len(positions) <= most:
        return [[position] for position in positions]
    share = sum(lengths) / most
    runs: list[list[int]] = [[]]
    filled = 0
    for position, length in zip(positions, lengths, strict=True):
        if runs[-1] and len(runs) < most and filled + length / 2 > share * len(runs):
            runs.append([])
        runs[-1].append(position)
        filled += length
    return runs


def _messages(large: list[tuple[int, int]]) -> list[list[Slice]]:
    """Pack gradients, given by position and length, into messages of at most `PIECE` numbers."""
    messages: list[list[Slice]] = []
    room = 0
    for position, length in large:
        pieces = -(-length // PIECE)
        edges = [length * piece // pieces for piece in range(pieces + 1)]
        for first, last in itertools.pairwise(edges):
            if last - first > room:
                messages.append([])
                room = PIECE
            messages[-1].append(Slice(position, first, last))
            room -= last - first
    return messages
