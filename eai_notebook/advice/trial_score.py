"""The running score of advice: how the trials of all recorded runs ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from eai_notebook.errors import EaiError
from eai_notebook.ledger.run_record import RunRecord, list_runs
from eai_notebook.ledger.trial_outcome import noted_trials

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

CLOSE: Final = 0.1
"""A gain is as expected if it differs from the expectation by at most this share of it."""


@dataclass(frozen=True)
class Score:
    """How many trials there were, how many changes were kept, and how many gained as expected."""

    tried: int
    kept: int
    as_expected: int

    @classmethod
    def of(cls, trials: Iterable[dict[str, Any]]) -> Score:
        """Count the outcomes that run records hold; those of another form are left out.

        Examples:
            >>> print(Score.of([{"decision": "kept", "expected_ms": 24.0, "measured_ms": 25.0},
            ...                 {"decision": "put back", "expected_ms": 3.0, "measured_ms": 0.1}]))
            of 2 tried, 1 gained; 1 within 10 % of what was expected
        """
        known = [
            each for each in trials if {"decision", "expected_ms", "measured_ms"} <= each.keys()
        ]
        close = [
            each
            for each in known
            if abs(each["measured_ms"] - each["expected_ms"]) <= CLOSE * each["expected_ms"]
        ]
        kept = sum(each["decision"] == "kept" for each in known)
        return cls(len(known), kept, len(close))

    def __str__(self) -> str:
        if not self.tried:
            return "nothing was tried yet"
        return (
            f"of {self.tried} tried, {self.kept} gained; {self.as_expected} within 10 % of what "
            "was expected"
        )


def score(root: Path | None = None) -> Score:
    """Return the score over all runs below `root`, the folder of run records by default."""
    return Score.of(_trials(root))


def _trials(root: Path | None) -> Iterable[dict[str, Any]]:
    for folder in list_runs(root):
        try:
            found = noted_trials(RunRecord(folder).info.meta)
        except (EaiError, OSError):
            continue  # a damaged record, or one that another process removes
        yield from found
