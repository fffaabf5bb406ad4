"""Whose rows a reader opens: this rank's, or those of a virtual rank in elastic training."""

from __future__ import annotations

import contextlib
from contextvars import ContextVar
from typing import TYPE_CHECKING, NamedTuple

from eai_notebook.collective import membership

if TYPE_CHECKING:
    from collections.abc import Iterator


class ReadingRank(NamedTuple):
    """A rank among those that share the rows out."""

    rank: int
    size: int


_virtual: ContextVar[ReadingRank | None] = ContextVar("virtual_rank", default=None)


@contextlib.contextmanager
def as_virtual_rank(rank: int, size: int) -> Iterator[None]:
    """Have readers that are opened in the block read the rows of virtual rank `rank` of `size`.

    Each row is read once an epoch, and nothing is exchanged: other ranks need not open anything.

    Examples:
        >>> with as_virtual_rank(2, 4):
        ...     reading_rank()
        ReadingRank(rank=2, size=4)
    """
    before = _virtual.set(ReadingRank(rank, size))
    try:
        yield
    finally:
        _virtual.reset(before)


def is_virtual() -> bool:
    """Return whether readers open the rows of a virtual rank now."""
    return _virtual.get() is not None


def reading_rank(*, shard: bool = True) -> ReadingRank:
    """Return whose rows to open; without `shard` all of them. Forms the ring, if it must be.

    For a virtual rank it is always its own share: elastic training shares all data out.
    """
    virtual = _virtual.get()
    if virtual is not None:
        return virtual
    if not shard:
        return ReadingRank(0, 1)
    membership.ensure_formed()
    return ReadingRank(membership.rank(), membership.size())
