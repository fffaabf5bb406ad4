"""Share out rows that come in groups: every row exactly once over all ranks."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence


class Slice(NamedTuple):
    """Rows ``begin`` to ``end`` of a group."""

    group: int
    begin: int
    end: int


def share_rows(groups: Sequence[int], rank: int, size: int, most: int = 0) -> list[Slice]:
    """Return which rows of which groups are a rank's: an equal part of all, in order.

    A group in which one rank's rows end and the next one's begin is read by both, each its part.

    Args:
        groups: Rows in each group.
        rank: Whose share.
        size: Number of ranks.
        most: Rows in a slice, where groups can be cut without cost; 0 to leave them whole.

    Examples:
        >>> share_rows([10, 0, 5], 0, 2), share_rows([10, 0, 5], 1, 2, most=4)
        ([Slice(group=0, begin=0, end=7)],
         [Slice(group=0, begin=7, end=10), Slice(group=2, begin=0, end=4),
          Slice(group=2, begin=4, end=5)])
    """
    total = sum(groups)
    first, last = total * rank // size, total * (rank + 1) // size
    slices = []
    offset = 0
    for group, rows in enumerate(groups):
        begin, end = max(first - offset, 0), min(last - offset, rows)
        step = most or max(end - begin, 1)
        slices += [Slice(group, at, min(at + step, end)) for at in range(begin, end, step)]
        offset += rows
    return slices
