"""A verdict that stays: while a run goes on it does not flicker between two causes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from eai_notebook.ledger.losses import NOTICED
from eai_notebook.ledger.verdict import losses_of, verdict_of

if TYPE_CHECKING:
    from eai_notebook.ledger.facts import Facts, Finding

PATIENCE: Final = 4
"""Another finding must lead at so many looks in a row before it is shown."""

LEAD: Final = 1.15
"""And cost so many times as much as the one that is shown, if that is still found."""

Identity = tuple[str, int | None, str | None]


class SteadyVerdict:
    """The verdict at one look after another; the numbers of the one shown are always new.

    Two causes that cost about the same would take turns, and a loss near the limit would come and
    go. So the cause that is shown stays until another one has clearly cost more for a while. The
    first verdict after "unknown" is shown at once.
    """

    def __init__(self) -> None:
        self._shown: Finding | None = None
        self._next: Identity | None = None
        self._looks = 0

    def of(self, facts: Facts) -> Finding:
        """Return what to show of a run's numbers as they are now."""
        best = verdict_of(facts)
        shown = self._shown
        if shown is None or "unknown" in (shown.kind, best.kind) or _same(best, shown):
            return self._show(best)
        still = self._again(facts, shown)
        leads = still is None or _cost(best) >= LEAD * _cost(still)
        if not leads:
            self._next, self._looks = None, 0
        elif self._next == _identity(best):
            self._looks += 1
        else:
            self._next, self._looks = _identity(best), 1
        if self._looks >= PATIENCE:
            return self._show(best)
        self._shown = still or shown
        return self._shown

    def _show(self, finding: Finding) -> Finding:
        self._shown, self._next, self._looks = finding, None, 0
        return finding

    def _again(self, facts: Facts, shown: Finding) -> Finding | None:
        """Return the finding that is shown with its present numbers; None if it is there no more."""
        found = [each for each in losses_of(facts, NOTICED) if _same(each, shown)]
        return verdict_of(facts, found) if found else None


def _cost(finding: Finding) -> float:
    """Return the share of a step that a loss costs; computing is none."""
    return 0.0 if finding.kind == "compute" else finding.share


def _identity(finding: Finding) -> Identity:
    return finding.kind, finding.rank, finding.cause


def _same(one: Finding, other: Finding) -> bool:
    return _identity(one) == _identity(other)
