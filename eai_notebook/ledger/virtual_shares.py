"""Elastic training in a run's record: who went and came, with the gap, and who does more work than others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from eai_notebook.ledger.formatting import span
from eai_notebook.ledger.virtual_ranks import block_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

REMEDY: Final = "`%eai grow` until each rank runs as many virtual ranks, or a `virtual_ranks=` that the ranks divide"

_REFUSED: Final = ("gradient_accumulation_steps", "row_wise", "ShardedEmbedding", 'wire="')


def shares(meta: Mapping[str, Any], size: int) -> list[int]:
    """Return how many virtual ranks each of `size` ranks runs; none of a run that is not elastic.

    Examples:
        >>> shares({"virtual_ranks": 4}, 3)
        [1, 1, 2]
    """
    virtual = meta.get("virtual_ranks")
    if virtual is None:
        return []
    return [len(block_of(rank, size, virtual)) for rank in range(size)]


def most_work(meta: Mapping[str, Any], size: int) -> str:
    """Return which ranks run more virtual ranks than others; empty if all run as many.

    Examples:
        >>> most_work({"virtual_ranks": 4}, 3)
        'rank 2 runs 2 of the 4 virtual ranks, the others 1'
        >>> most_work({"virtual_ranks": 4}, 2)
        ''
    """
    each = shares(meta, size)
    if len(set(each)) <= 1:
        return ""
    most = [rank for rank, count in enumerate(each) if count == max(each)]
    verb = "runs" if len(most) == 1 else "run"
    who = "" if len(most) == 1 else " each"
    words = f"{max(each)}{who} of the {sum(each)} virtual ranks, the others {min(each)}"
    return f"{span(most)} {verb} {words}"


def does_most(meta: Mapping[str, Any], size: int, rank: int) -> bool:
    """Return whether a rank runs more virtual ranks than others.

    Examples:
        >>> does_most({"virtual_ranks": 4}, 3, 2), does_most({}, 3, 2)
        (True, False)
    """
    each = shares(meta, size)
    return len(set(each)) > 1 and each[rank] == max(each)


def is_possible(remedy: str, meta: Mapping[str, Any]) -> bool:
    """Return whether a remedy can be had in a run: elastic training refuses some.

    Examples:
        >>> is_possible('`row_wise="exact"` in `eai.fit`', {"virtual_ranks": 4})
        False
        >>> is_possible('`row_wise="exact"` in `eai.fit`', {})
        True
    """
    return meta.get("virtual_ranks") is None or not any(each in remedy for each in _REFUSED)


def changes(meta: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for each change of the ranks that train: who, before which step, how long it took.

    Examples:
        >>> lost = {"step": 12, "lost": [2], "left": 3, "seconds": 0.118}
        >>> list(changes({"membership": [lost]}))
        ['gap of 0.12 s before step 12: rank 2 is gone, 3 ranks go on']
    """
    for change in meta.get("membership", ()):
        seconds = change.get("seconds")
        gap = "gap" if seconds is None else f"gap of {seconds:.2g} s"
        joined = change.get("joined", ())
        who = _with_verb(joined, "has joined", "have joined") if joined else ""
        gone = _with_verb(change["lost"], "is gone", "are gone") if change["lost"] else ""
        left = change["left"]
        on = f"{left} rank{'s' * (left != 1)} {'goes' if left == 1 else 'go'} on"
        yield f"{gap} before step {change['step']}: {' and '.join(filter(None, [gone, who]))}, {on}"


def _with_verb(ranks: Sequence[int], one: str, several: str) -> str:
    return f"{span(list(ranks))} {one if len(ranks) == 1 else several}"
