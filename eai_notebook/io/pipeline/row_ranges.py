"""Split rows that are stored in groups over ranks: every row exactly once."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence


class Slice(NamedTuple):
    """Rows ``begin`` to ``end`` of a group."""

    group: int
    begin: int
    end: int


def share_rows(groups: Sequence[int], rank: int, size: int, max_rows: int = 0) -> list[Slice]:
    """Return a rank's rows as slices of groups: an equal number for each rank, in order.

    Two ranks may read different rows of one group.

    Args:
        groups: Rows in each group.
        rank: The rank.
        size: Number of ranks.
        max_rows: Rows in a slice, if groups can be split without cost; 0 not to split them.

    Examples:
        >>> share_rows([10, 0, 5], 0, 2), share_rows([10, 0, 5], 1, 2, max_rows=4)
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
        step = max_rows or max(end - begin, 1)
        slices += [Slice(group, row, min(row + step, end)) for row in range(begin, end, step)]
        offset += rows
    return slices
