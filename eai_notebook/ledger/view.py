"""The model that every display draws: a run, small enough to send five times a second.

The TypeScript chart mirrors this dictionary field by field (`labextension/src/model.ts`).
It is JSON: lengths of time in milliseconds, and None where nothing was measured.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from eai_notebook.ledger.merge import Floats, GrowingLedger, Ledger, mean
from eai_notebook.ledger.report import measuring_pct, merge_record, rates
from eai_notebook.ledger.step import PARTS
from eai_notebook.ledger.verdict import verdict

if TYPE_CHECKING:
    from eai_notebook.ledger.record import RunInfo, RunRecord

SCHEMA: Final = 1
MOST_BUCKETS: Final = 240
"""More bars than this a screen cannot show side by side."""

MOST_STEPS_LOOKED_AT: Final = 2000
"""Means over more steps than this are taken over evenly spaced ones: the view stays quick."""


def run_view(info: RunInfo, ledger: Ledger) -> dict[str, Any]:
    """Return the model of a run.

    ``buckets`` has one mean over ranks for each stretch of neighbouring steps, ``ranks``
    the mean of each rank over the typical steps, both in the order of `PARTS`.
    """
    looked_at = _thinned(ledger)
    typical = looked_at.typical()
    by_rank = mean(typical.parts, axis=1)
    hidden = mean(typical.hidden, axis=1)
    found = verdict(looked_at)
    numbers = rates(typical)
    return {
        "schema": SCHEMA,
        "run": {
            "id": info.run,
            "name": info.name,
            "state": info.state,
            "started": info.started,
            "size": info.size,
            "hosts": sorted(set(info.hosts.values())),
            "steps": int(ledger.steps[-1]) + 1 if len(ledger.steps) else 0,
        },
        "parts": list(PARTS),
        "buckets": _buckets(ledger),
        "ranks": [
            {
                "rank": rank,
                "host": info.hosts.get(rank, ""),
                "ms": _plain(1e3 * by_rank[place]),
                "hidden_ms": _number(1e3 * hidden[place]),
            }
            for place, rank in enumerate(ledger.ranks)
        ],
        "rates": {
            "samples_per_s": _number(numbers.samples_per_s),
            "step_ms": _number(1e3 * numbers.step),
            "bytes_per_step": _number(numbers.bytes_per_step),
            "bus_bytes_per_s": _number(numbers.bus_bandwidth),
        },
        "verdict": {
            "kind": found.kind,
            "sentence": found.sentence,
            "evidence": list(found.evidence),
            "rank": found.rank,
        },
        "measuring_pct": _number(measuring_pct(ledger, info)),
    }


def record_view(record: RunRecord) -> dict[str, Any]:
    """Return the model of a run on disk."""
    return run_view(record.info, merge_record(record))


class LiveView:
    """The view of a record that is still being written: each look reads only what is new."""

    def __init__(self, record: RunRecord) -> None:
        self._record = record
        self._growing = GrowingLedger(record.info.size)
        self._read: dict[int, int] = {}

    def look(self) -> dict[str, Any]:
        """Return the model as it is now: up to the last step that all ranks have written.

        Once the run has ended it is the model of the whole record, with the steps that
        only some ranks came to.
        """
        record = self._record
        if record.info.state != "running":
            return record_view(record)
        for rank in record.ranks:
            if rank not in self._read:
                self._growing.begin(rank, record.info.clock_offset[rank])
                self._read[rank] = 0
            rows = record.rows(rank, start=self._read[rank])
            self._growing.add(rank, rows)
            self._read[rank] += len(rows)
        return run_view(record.info, self._growing.ledger())


def _thinned(ledger: Ledger) -> Ledger:
    every = -(-len(ledger.steps) // MOST_STEPS_LOOKED_AT)
    return ledger.select(slice(None, None, every)) if every > 1 else ledger


def _buckets(ledger: Ledger) -> dict[str, Any]:
    """Return the mean over ranks of each stretch of steps, and the step it starts with."""
    count = len(ledger.steps)
    width = max(1, -(-count // MOST_BUCKETS))
    starts = range(0, count, width)
    table = mean(ledger.parts, axis=0)
    return {
        "width": width,
        "step": [int(ledger.steps[start]) for start in starts],
        "ms": [_plain(1e3 * mean(table[start : start + width], axis=0)) for start in starts],
    }


def _plain(values: Floats) -> list[float | None]:
    return [_number(float(value)) for value in values]


def _number(value: float) -> float | None:
    """Return a number that JSON has, short enough to send: NaN becomes None."""
    return float(f"{value:.4g}") if np.isfinite(value) else None
