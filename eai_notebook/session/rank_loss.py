"""Turn any error caused by a dead rank into one 'rank died' error.

The controller gives a dead rank up before ``mpirun`` has ended, and sometimes between two
lines of ours. What ipyparallel then raises speaks of its own tables and names no rank.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from eai_notebook.cluster.rank_requests import UNREACHABLE
from eai_notebook.session import remote_calls
from eai_notebook.session.rank_sets import name_ranks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from eai_notebook.cluster.group import Group

DIED = "EngineError"
"""What a request ends with whose rank is given up while it is under way."""


@contextlib.contextmanager
def explaining_rank_loss(group: Group, lost: Callable[[Group], Exception]) -> Iterator[None]:
    """Raise what `lost` returns if a rank of `group` turns out to be dead inside the block."""
    try:
        yield
    except UNREACHABLE:
        if not group.missing:
            raise
        raise lost(group) from None
    except remote_calls.REMOTE_ERRORS as error:
        if remote_calls.first_error(error).ename != DIED:
            raise
        raise lost(group) from None


def ranks_gone(group: Group, ranks: Sequence[int], hosts: Mapping[int, str]) -> str:
    """Return who of an elastic group has died of what, and who goes on, in words.

    `hosts` says where ranks are, also those that have died.
    """
    live = group.live
    plural = len(live) > 1
    stay = f"{name_ranks(live)} {'keep their' if plural else 'keeps its'} variables"
    return f"{group.deaths(ranks, hosts)}; {len(live)} of {group.size} ranks go on: {stay}"


def name_missing(group: Group, hosts: Mapping[int, str]) -> str:
    """Return the ranks of `group` that are missed, in words, with the host of a single one."""
    missing = group.missing
    if not missing:
        return "a rank"
    host = hosts.get(missing[0])
    return name_ranks(missing) + (f" on {host}" if host and len(missing) == 1 else "")
