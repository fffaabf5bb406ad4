"""The view model that every display draws: small enough to send five times a second.

The TypeScript chart mirrors this dictionary field by field (`labextension/src/types.ts`).
It is JSON: lengths of time in milliseconds, and None where nothing was measured.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from eai_notebook.ledger import view_cache
from eai_notebook.ledger.arrays import Floats, mean
from eai_notebook.ledger.context import Context
from eai_notebook.ledger.facts import Facts
from eai_notebook.ledger.followed_run import FollowedRun, read_run
from eai_notebook.ledger.merge import mean_parts
from eai_notebook.ledger.one_rank import speed_up
from eai_notebook.ledger.parts import ADDED, PARTS, WAIT_PEER
from eai_notebook.ledger.report import measuring_pct, rates
from eai_notebook.ledger.steady_verdict import SteadyVerdict
from eai_notebook.ledger.trial_outcome import trial_texts
from eai_notebook.ledger.verdict import verdict_of

if TYPE_CHECKING:
    from eai_notebook.ledger.aggregate import Summary
    from eai_notebook.ledger.facts import Finding
    from eai_notebook.ledger.run_record import RunInfo, RunRecord
    from eai_notebook.ledger.training_curve import TrainingCurve
    from eai_notebook.ledger.vitals_curve import VitalsCurve
    from eai_notebook.telemetry.messages import RunMessage

SCHEMA: Final = 4
MOST_COLUMNS: Final = 120
"""Columns of the heat map; a narrow panel is hardly wider than twice that."""

MOST_CELLS: Final = 8192
"""Of the heat map: hundreds of ranks get fewer columns."""

LEAST_SPREAD: Final = 0.1
"""Of its scale: ranks that differ by less look alike, instead of noise looking like fire."""

DIGITS: Final = 4
"""Of the lengths of bars; a pixel shows fewer."""

EXACT_DIGITS: Final = 9
"""Of numbers that are shown as text: rounded twice, a number may differ from the report's."""


def run_view(
    info: RunInfo,
    summary: Summary,
    curve: TrainingCurve | None = None,
    shown: Finding | None = None,
    vitals: VitalsCurve | None = None,
) -> dict[str, Any]:
    """Return the model of a run; ``shown`` is its verdict, if not the one of this moment.

    ``buckets`` has one mean over ranks for each stretch of neighbouring steps, from ``step``
    up to but without ``stop``; the parts and ``unmeasured_ms`` add up to a step. ``ranks`` has
    the mean of each rank over the typical steps, both in the order of `PARTS`; ``added_parts`` says how to draw those of other packages;
    ``means_ms`` are
    the means over the ranks, ``waiting_ms`` is the waiting of a rank that waits. ``heat``
    is how long each rank was busy by itself in each stretch. ``price`` adds up the whole
    run, in seconds of rank time. ``training`` is the loss and the metrics, ``vitals`` how the
    ranks were over time; both are None without any.
    """
    facts = Facts(summary.kept, Context.of(info))
    by_rank_ms = _plain(1e3 * facts.by_rank, EXACT_DIGITS)
    hidden = mean(facts.typical.hidden, axis=1)
    found = verdict_of(facts) if shown is None else shown
    numbers = rates(facts)
    now = _now(summary) if info.state == "running" else {}
    return {
        "schema": SCHEMA,
        "run": {
            "id": info.run,
            "name": info.name,
            "state": info.state,
            "started": info.started,
            "ended": info.ended,
            "size": info.size,
            "hosts": sorted(set(info.hosts.values())),
            "steps": summary.steps,
        },
        "parts": list(PARTS),
        "added_parts": {part.name: part.style() for part in ADDED},
        "means_ms": _plain(1e3 * facts.parts, EXACT_DIGITS),
        "waiting_ms": None if facts.waiting is None else _number(1e3 * facts.waiting.total),
        "buckets": _buckets(summary),
        "heat": _heat(summary),
        "ranks": [
            {
                "rank": rank,
                "host": info.hosts.get(rank, ""),
                "ms": by_rank_ms[index],
                "hidden_ms": _number(1e3 * hidden[index]),
                "now": now.get(rank),
            }
            for index, rank in enumerate(summary.ranks)
        ],
        "rates": {
            "samples_per_s": _number(numbers.samples_per_s),
            "step_ms": _number(1e3 * numbers.step),
            "bytes_per_step": _number(numbers.bytes_per_step),
            "bus_bytes_per_s": _number(numbers.bus_bandwidth),
            "link_bytes_per_s": info.meta.get("link_bytes_per_s"),
            "hidden_ms": _number(1e3 * numbers.hidden),
            "one_rank": speed_up(info.meta, info.size, facts.batch, numbers.samples_per_s),
        },
        "price": {
            "rank_s": _number(summary.wall),
            "parts_s": _plain(summary.spent, EXACT_DIGITS),
            "unmeasured_s": _number(summary.spent_unmeasured),
        },
        "verdict": {
            "kind": found.kind,
            "sentence": found.sentence,
            "evidence": list(found.evidence),
            "rank": found.rank,
            "tries": list(found.tries),
            "gain": found.gain,
        },
        "training": None if curve is None else curve.model(info.meta),
        "vitals": None if vitals is None else vitals.model(info.hosts),
        "measuring_pct": _number(measuring_pct(summary.wall, info)),
        "trial": "; ".join(trial_texts(info.meta)) or None,
    }


def section_view(record: RunRecord, first: int, stop: int) -> dict[str, Any]:
    """Return some steps of a run on disk, from `first` up to but without `stop`, for a closer look.

    ``buckets``, ``heat``, ``means_ms`` and the ranks' ``ms`` are those of `run_view`, of these steps
    alone; the means are over all of them, since nobody who opens one step asks for typical ones.
    """
    summary = read_run(record, (first, stop)).summary
    ledger = summary.kept
    by_rank = _plain(1e3 * mean_parts(ledger, axis=1), EXACT_DIGITS)
    return {
        "first": first,
        "stop": stop,
        "means_ms": _plain(1e3 * mean_parts(ledger, axis=(0, 1)), EXACT_DIGITS),
        "buckets": _buckets(summary),
        "heat": _heat(summary),
        "ranks": [
            {"rank": rank, "host": record.info.hosts.get(rank, ""), "ms": parts}
            for rank, parts in zip(summary.ranks, by_rank, strict=True)
        ],
    }


def record_view(record: RunRecord) -> dict[str, Any]:
    """Return the model of a run on disk; that of a long one is kept, and read at once."""
    view = view_cache.find(record, SCHEMA)
    if view is None:
        view = followed_view(read_run(record))
        view_cache.keep(record, SCHEMA, view)
    return view


def followed_view(run: FollowedRun, shown: Finding | None = None) -> dict[str, Any]:
    """Return the model of a run as far as it was read; ``shown`` as for `run_view`."""
    return run_view(run.info, run.summary, run.curve, shown, run.vitals)


class LiveView:
    """The view of a run that goes on; see `FollowedRun` for how its record is followed."""

    def __init__(self, record: RunRecord) -> None:
        self._run = FollowedRun(record)
        self._steady = SteadyVerdict()

    def add_message(self, message: RunMessage) -> None:
        """Add a message that has just been added to the record: all of them, or none."""
        self._run.add_message(message)

    @property
    def vitals(self) -> VitalsCurve:
        """How the ranks were over time; add to it what they say of themselves."""
        return self._run.vitals

    @property
    def steps(self) -> int:
        """How many steps all ranks had written at the last look."""
        return self._run.summary.steps

    def look(self) -> dict[str, Any]:
        """Return the model as it is now: up to the last step that all ranks have written.

        Once the run has ended it is the model of the whole record, with the steps that
        only some ranks came to.
        """
        run = self._run
        run.read()
        if run.info.state != "running":
            run.finish()
            return followed_view(run)
        return followed_view(run, self._steady.of(run.facts()))


def _buckets(summary: Summary) -> dict[str, Any]:
    """Return what is known of each stretch of steps."""
    return {
        "width": summary.width,
        "step": summary.starts.tolist(),
        "stop": summary.stops.tolist(),
        "ms": _plain(1e3 * summary.parts),
        "unmeasured_ms": _plain(1e3 * summary.unmeasured),
        "samples_per_s": _plain(_throughput(summary)),
        "longest": _longest(summary),
    }


def _throughput(summary: Summary) -> Floats:
    """Return the samples/s of all ranks in each stretch of steps; NaN where not known."""
    length = np.nansum(summary.parts, axis=1) + np.nan_to_num(summary.unmeasured)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(length > 0, summary.samples / length, np.nan)


def _longest(summary: Summary) -> dict[str, Any] | None:
    """Return the longest step and its mean length over ranks; None before any step."""
    if summary.longest is None:
        return None
    step, length = summary.longest
    return {"step": step, "ms": _number(1e3 * length)}


def _now(summary: Summary) -> dict[int, dict[str, Any]]:
    """Return what each rank mostly does in its latest steps, and for whom it waits."""
    recent = summary.recent
    by_rank = mean_parts(recent, axis=1)
    known = recent.last_rank[recent.last_rank >= 0]
    last = int(np.bincount(known).argmax()) if len(known) else None
    found = {}
    for rank, parts in zip(recent.ranks, by_rank, strict=True):
        if np.isfinite(parts).any():
            part = int(np.nanargmax(parts))
            waits = part == WAIT_PEER and last != rank
            found[rank] = {"part": PARTS[part], "for": last if waits else None}
    return found


def _heat(summary: Summary) -> dict[str, Any]:
    """Return each rank's own time in each stretch of steps, a byte a cell, row by row.

    0 is "not measured"; 1 to 255 run from ``low_ms`` to ``high_ms``, and what is shorter
    or longer looks like the end of the scale.
    """
    own = 1e3 * summary.own
    columns = min(MOST_COLUMNS, max(24, MOST_CELLS // max(1, len(own))))
    folds = 0
    while own.shape[1] > columns:
        own = _folded(own)
        folds += 1
    known = own[np.isfinite(own)]
    low, high = np.percentile(known, [2, 98]) if len(known) else (0.0, 0.0)
    # One slow rank of many, or one slow moment, is what the map is looked at for.
    high = max(high, *_medians(own, axis=1), *_medians(own, axis=0)) if len(known) else high
    middle, least = (low + high) / 2, LEAST_SPREAD * (low + high) / 2
    if high - low < least:
        low, high = middle - least / 2, middle + least / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        scaled = 1 + 254 * np.clip((own - low) / (high - low), 0, 1)
    cells = np.where(np.isfinite(scaled), np.nan_to_num(scaled).round(), 0).astype(np.uint8)
    return {
        "width": summary.width * 2**folds,
        "columns": own.shape[1],
        "low_ms": _number(low),
        "high_ms": _number(high),
        "cells": base64.b64encode(cells.tobytes()).decode(),
    }


def _medians(table: Floats, axis: int) -> Floats:
    """Return the medians of what is known, along an axis; nothing for a line that is unknown."""
    lines = np.sort(np.moveaxis(table, axis, -1), axis=-1)  # what is not known comes last
    count = np.isfinite(lines).sum(axis=-1)
    lines, count = lines[count > 0], count[count > 0]
    at = np.arange(len(lines))
    return np.asarray((lines[at, (count - 1) // 2] + lines[at, count // 2]) / 2)


def _folded(table: Floats) -> Floats:
    """Return the means of neighbouring columns."""
    if table.shape[1] % 2:
        table = np.pad(table, ((0, 0), (0, 1)), constant_values=np.nan)
    return mean(table.reshape(len(table), -1, 2), axis=2)


def _plain(values: Floats, most: int = DIGITS) -> Any:
    """Return numbers that JSON has, short enough to send, as nested lists: NaN becomes None."""
    known = np.isfinite(values)
    size = np.where(known & (values != 0), np.abs(values), 1.0)
    digits = most - 1 - np.floor(np.log10(size))
    # Dividing by a power of ten, not multiplying by its inverse, gives what is short in print.
    up, down = 10.0 ** np.maximum(digits, 0), 10.0 ** np.maximum(-digits, 0)
    short = np.rint(np.where(known, values, 0.0) * up / down) * down / up
    table: Any = short.astype(object)
    table[~known] = None
    return table.tolist()


def _number(value: float) -> float | None:
    """Return a number that JSON has, short enough to send: NaN becomes None."""
    return float(f"{value:.{EXACT_DIGITS}g}") if np.isfinite(value) else None
