"""Compare a variable of the ranks while a cell runs, at the end of the same training step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eai_notebook.session.rank_answers import PATIENCE_S, require_all
from eai_notebook.session.rank_sets import name_ranks
from eai_notebook.session.variable_diff import first_difference

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eai_notebook.cluster.group import Group
    from eai_notebook.telemetry.messages import VariableDigested


class LiveDiff:
    """Asks the ranks for the digests of a variable, and compares them once all have come.

    `ask` may be called from any thread; `take` and `end_cell` are the cell's.
    """

    def __init__(self) -> None:
        self.latest: dict[str, Any] | None = None
        """The latest comparison: its ``number``, and its outcome in ``words``."""
        self._number = 0
        self._waits: set[int] = set()
        self._found: dict[int, VariableDigested] = {}
        self._words = ""

    def ask(self, group: Group, ranks: Sequence[int], name: str) -> str:
        """Have `ranks`, which run a cell, send what they have of the variable; return what was asked."""
        paces = {rank: found["pace"] for rank, found in _asked(group, ranks, {}).items()}
        training = [rank for rank in ranks if paces[rank] is not None]
        request: dict[str, Any] = {"name": name, "number": self._number + 1}
        if len(training) > 1:
            taken, ahead = (max(pace[at] for pace in paces.values() if pace) for at in (0, 1))
            request["step"] = step = taken + ahead
            words = f"`{name}` of {name_ranks(training)} is compared at the end of step {step}"
        else:
            training = list(ranks)
            words = (
                f"no step is being taken: `{name}` of {name_ranks(ranks)} is compared as it is now"
            )
        self._found, self._waits, self._words = {}, set(training), words
        self._number += 1
        _asked(group, training, request)
        return words

    def take(self, found: VariableDigested) -> bool:
        """Take what a rank has sent; return whether there is something new to show."""
        if found.number != self._number or found.rank not in self._waits:
            return False
        self._found[found.rank] = found
        if set(self._found) < self._waits:
            return False
        self._show(_compared(self._found))
        return True

    def end_cell(self) -> bool:
        """Give up what has not come, since the cell is over; return whether that is new."""
        if not self._waits:
            return False
        missing = name_ranks(sorted(self._waits - set(self._found)))
        self._show(
            f"the cell ended before {missing} had compared it: ask again, the ranks are idle"
        )
        return True

    def _show(self, words: str) -> None:
        self._waits = set()
        self.latest = {"number": self._number, "words": words}


def _compared(found: dict[int, VariableDigested]) -> str:
    """Return the outcome in words."""
    name = next(iter(found.values())).name
    for rank, each in sorted(found.items()):
        if each.error:
            return f"{each.error} on rank {rank}"
    steps = {each.step for each in found.values()}
    if len(steps) > 1:
        said = ", ".join(f"rank {rank} {found[rank].step}" for rank in sorted(found))
        return f"the ranks had not taken as many steps ({said}): ask again"
    (step,) = steps
    when = {None: "now", -1: "at the end of the run"}.get(step, f"at the end of step {step}")
    apart = first_difference({rank: found[rank].parts for rank in sorted(found)})
    if apart is None:
        return f"`{name}` is the same on {name_ranks(sorted(found))} {when}"
    label = f" ({apart.label})" if apart.label else ""
    kinds = "" if apart.kinds[0] == apart.kinds[1] else f": {apart.kinds[1]}, not {apart.kinds[0]}"
    more = f"; {apart.others} more parts differ" if apart.others else ""
    return (
        f"`{apart.path}`{label} of {name_ranks(apart.odd)} differs from rank {apart.even} "
        f"{when}{kinds}{more}"
    )


def _asked(group: Group, ranks: Sequence[int], what: dict[str, Any]) -> dict[int, dict[str, Any]]:
    """Return the answers of all of `ranks`."""
    found = group.ask_digest(ranks, what, PATIENCE_S)
    require_all(found, ranks)
    return found
