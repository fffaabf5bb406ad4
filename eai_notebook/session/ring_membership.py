"""The kernel's view of the ring, and how it is formed before a cell."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any, Final

from eai_notebook.session import remote_calls
from eai_notebook.session.cell_supervisor import GIVE_UP_S

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from eai_notebook.cluster.group import Group
    from eai_notebook.session.interrupts import DeferredInterrupt

_SILENT_S: Final = 2.0
"""Forming may take this long before the wait is announced."""


class RingMembership:
    """Which ranks the ring spans; unknown once a cell has failed on one of them.

    Attributes:
        ranks: These; None when some rank may have released it.
    """

    def __init__(self) -> None:
        self.ranks: tuple[int, ...] | None = None
        self._left_out: tuple[int, ...] | None = ()

    def forget(self) -> None:
        """Have the next ring be formed of those that live then, whatever ranks have come or gone."""
        self.ranks, self._left_out = None, None

    def form(
        self,
        group: Group,
        ranks: Sequence[int],
        presses: DeferredInterrupt,
        say: Callable[[str], None],
    ) -> bool:
        """Form it on `ranks`, unless it spans them; return False if the user gave it up.

        A press of Stop does not tear it apart: ranks that have joined would wait without end for
        the others. If it stands soon, the press remains to be taken; else the next cell asks anew,
        after the ranks have done what they were asked here.
        """
        if self.ranks == tuple(ranks):
            return True
        live = group.live
        others = [r for r in self.ranks or range(group.size) if r in live and r not in ranks]
        self.ranks = None  # until all have done their part
        if (missing := tuple(group.missing)) != self._left_out:
            if not _answered(group.view(live).apply_async(remote_calls.drop_dead), presses, say):
                return False
            self._left_out = missing
        requests = [group.view(ranks).apply_async(remote_calls.join_ring, list(ranks))]
        if others:
            requests.append(group.view(others).apply_async(remote_calls.leave_ring))
        if not all(_answered(request, presses, say) for request in requests):
            return False
        self.ranks = tuple(ranks)
        return True


def _answered(request: Any, presses: DeferredInterrupt, say: Callable[[str], None]) -> bool:
    """Wait for a request; return False if the user did not want to, and it was not soon over."""
    begin, ends = time.monotonic(), math.inf
    while not request.ready():
        request.wait(0.2)
        waited = time.monotonic() - begin
        if waited > _SILENT_S:
            say(f"the ranks are forming the ring, {waited:.0f} s")
        if presses.is_pressed:
            ends = min(ends, waited + GIVE_UP_S)
        if waited > ends:
            return False
    request.get()
    return True
