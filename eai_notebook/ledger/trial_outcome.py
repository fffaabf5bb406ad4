"""How a trial of a remedy ended, as the ranks write it into the run's record."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

MOST: Final = 50
"""A record keeps so many trials of a run, the latest: one takes a minute or more."""


@dataclass(frozen=True)
class Outcome:
    """What a trial found: milliseconds a step gained, the interval, and what became of the change.

    ``decision`` is ``kept``, ``put back``, or ``undecided``, which is put back as well.
    """

    words: str
    decision: str
    expected_ms: float
    measured_ms: float
    low_ms: float
    high_ms: float
    before: int
    value: int
    differences: int

    def to_text(self) -> str:
        """Return the outcome in one line."""
        measured = "nothing could be measured"
        if self.differences >= 2:  # noqa: PLR2004 -- one has no spread
            measured = f"measured {self.measured_ms:.3g} ({self.low_ms:.3g} to {self.high_ms:.3g})"
        kept = "kept" if self.decision == "kept" else f"{self.decision}, it is {self.before} again"
        kept = kept.replace("put back, it", "put back: it").replace(
            "undecided, it", "undecided: it"
        )
        return f"{self.words}: expected {self.expected_ms:.3g} ms a step less, {measured}: {kept}"


def notes_of(before: Mapping[str, Any], outcome: Mapping[str, Any]) -> dict[str, Any]:
    """Return what to write into a record whose notes are `before` when a trial ends: all trials, in order.

    ``trial`` is the latest one, for readers of records that had no more.

    Examples:
        >>> notes = notes_of({}, {"decision": "put back"})
        >>> [each["decision"] for each in notes_of(notes, {"decision": "kept"})["trials"]]
        ['put back', 'kept']
    """
    return {"trial": outcome, "trials": [*before.get("trials", ()), outcome][-MOST:]}


def noted_trials(meta: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the trials that a record's notes hold, in order; of an older record its only one."""
    found = meta.get("trials", [meta.get("trial")])
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def trial_texts(meta: Mapping[str, Any]) -> list[str]:
    """Return a line for each trial in a record's notes that can be read."""
    return [text for each in noted_trials(meta) if (text := trial_text(each)) is not None]


def trial_text(noted: object) -> str | None:
    """Return in one line what a record says of a trial; None where it says nothing that fits.

    Examples:
        >>> trial_text({"words": "twice the readers", "decision": "kept", "expected_ms": 24.0,
        ...             "measured_ms": 25.0, "low_ms": 24.0, "high_ms": 26.0, "before": 2, "value": 4,
        ...             "differences": 6})
        'twice the readers: expected 24 ms a step less, measured 25 (24 to 26): kept'
        >>> trial_text({"words": "twice the readers"}) is None
        True
    """
    if not isinstance(noted, dict) or not {each.name for each in fields(Outcome)} <= noted.keys():
        return None
    # JSON has no infinite interval.
    values = {each.name: noted[each.name] for each in fields(Outcome)}
    for name, endless in (("low_ms", -math.inf), ("high_ms", math.inf)):
        values[name] = endless if values[name] is None else values[name]
    numbers = [value for name, value in values.items() if name not in ("words", "decision")]
    if not all(isinstance(each, int | float) for each in numbers):
        return None
    if not all(isinstance(values[name], str) for name in ("words", "decision")):
        return None
    return Outcome(**values).to_text()
