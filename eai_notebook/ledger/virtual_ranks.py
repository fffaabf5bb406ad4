"""Virtual ranks: which of them each live rank runs; one rule for ranks and for readers of their record."""

from __future__ import annotations


def block_of(position: int, live: int, virtual: int) -> range:
    """Return the virtual ranks that the live rank at `position` runs: consecutive ones.

    Blocks differ in length by one at most, and joined in the order of positions they give all
    virtual ranks in order, however many live ranks there are. With more live than virtual ranks
    some blocks are empty.

    Args:
        position: The live rank's position, from 0.
        live: How many live ranks there are.
        virtual: How many virtual ranks there are.

    Examples:
        >>> [list(block_of(position, 3, 4)) for position in range(3)]
        [[0], [1], [2, 3]]
    """
    return range(position * virtual // live, (position + 1) * virtual // live)
