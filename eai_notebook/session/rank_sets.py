"""Parse and format sets of ranks: ``0,2-3``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from eai_notebook.errors import EaiError

if TYPE_CHECKING:
    from collections.abc import Iterable


def parse_ranks(text: str, size: int) -> list[int]:
    """Return the ranks that `text` names in a group of `size`, sorted, each once.

    Raises `EaiError` when `text` is not a list of ranks or names one that is not there.

    Examples:
        >>> parse_ranks("0,2-3", 4)
        [0, 2, 3]
    """
    ranks: set[int] = set()
    for item in text.split(","):
        found = re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", item)
        if not found:
            raise EaiError(
                f"{text!r} is not a list of ranks", "write them as `0,2-3`", code="ranks-invalid"
            )
        first = int(found[1])
        last = int(found[2] or first)
        if last < first:
            raise EaiError(
                f"{item.strip()!r} counts down",
                f"write it as `{last}-{first}`",
                code="ranks-invalid",
            )
        ranks.update(range(first, last + 1))
    return checked_ranks(ranks, size)


def checked_ranks(ranks: Iterable[int], size: int) -> list[int]:
    """Return `ranks` sorted, each once.

    Raises `EaiError` when one is not in a group of `size`, or when there are none.

    Examples:
        >>> checked_ranks([2, 0, 2], 4)
        [0, 2]
    """
    chosen = sorted(set(ranks))
    remedy = f"choose from {format_ranks(range(size))}"
    if not chosen:
        raise EaiError("no rank is named", remedy, code="ranks-invalid")
    for rank in chosen:
        if not 0 <= rank < size:
            raise EaiError(
                f"there is no rank {rank} in a group of {size}", remedy, code="ranks-invalid"
            )
    return chosen


def format_ranks(ranks: Iterable[int]) -> str:
    """Return `ranks` as short as can be read.

    Examples:
        >>> format_ranks([3, 0, 2, 4])
        '0,2-4'
    """
    spans: list[list[int]] = []
    for rank in sorted(set(ranks)):
        if spans and rank == spans[-1][1] + 1:
            spans[-1][1] = rank
        else:
            spans.append([rank, rank])
    return ",".join(f"{a}" if a == b else f"{a}-{b}" for a, b in spans)


def name_ranks(ranks: Iterable[int]) -> str:
    """Return `ranks` for a sentence.

    Examples:
        >>> name_ranks([1]), name_ranks([0, 1])
        ('rank 1', 'ranks 0-1')
    """
    ranks = list(ranks)
    return f"rank{'s' if len(set(ranks)) > 1 else ''} {format_ranks(ranks)}"


def count_ranks(size: int) -> str:
    """Return how many ranks there are, with the verb.

    Examples:
        >>> count_ranks(1), count_ranks(2)
        ('1 rank is', '2 ranks are')
    """
    return "1 rank is" if size == 1 else f"{size} ranks are"
