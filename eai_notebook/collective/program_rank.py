"""`rank`, `size` and `local_rank` for programs: they join the ring first, where there is to be one.

The package asks `membership`, which answers 0 and 1 as long as no ring stands. A program under
``mpirun`` that shares its rows out by these, before anything else has formed the ring, would
give every rank all of them.
"""

from __future__ import annotations

from eai_notebook.collective import membership


def rank() -> int:
    """Return this process's number among the ranks, counted from 0; 0 without a group.

    Under ``mpirun`` the first call, by all ranks, forms the ring.

    Raises:
        EaiError: The ring was released, because a rank failed.

    Examples:
        >>> rank()
        0
    """
    membership.ensure_formed()
    return membership.rank()


def size() -> int:
    """Return how many ranks there are; 1 without a group.

    Raises:
        EaiError: The ring was released, because a rank failed.

    Examples:
        >>> size()
        1
    """
    membership.ensure_formed()
    return membership.size()


def local_rank() -> int:
    """Return this process's number among the ranks of its host, such as that of its GPU.

    Raises:
        EaiError: The ring was released, because a rank failed.

    Examples:
        >>> local_rank()
        0
    """
    membership.ensure_formed()
    return membership.local_rank()
