"""From timestamps to step rows; plain NumPy."""

from __future__ import annotations

from typing import Final

import numpy as np

from eai_notebook.ledger.step_schema import empty_steps
from eai_notebook.train.recording import graph_timestamps

ASKED: Final = 0
GOT: Final = 1
SAMPLES: Final = 2
HEAD: Final = 3
"""Marks of the input, in front of `marks.row`'s: asked for a batch, got it, its samples."""

_OF_RING: Final = ("ready", "reduced", "hidden", "bytes", "embedding_bytes", "redone")

Array = np.ndarray


def step_rows(first: int, begin: Array, end: Array, taken: Array, *, in_ring: bool) -> Array:
    """Return the rows of consecutive steps, of which `first` is the first one's number.

    `begin` and `end` have shape [n] and are seconds since the epoch; `taken` has shape
    [n, HEAD + marks.WIDTH]. Marks older than their step are left-overs of an earlier one
    and count as missing. Without a ring there is nothing to wait for: ``ready`` and
    ``reduced`` are missing then, as they are in a step without an exchange.
    """
    rows = empty_steps(len(begin))
    times = np.where(taken >= begin[:, None], taken, np.nan)
    asked, got = taken[:, ASKED], taken[:, GOT]
    row = times[:, HEAD:]
    group_ready, group_reduced = row[:, graph_timestamps.READY], row[:, graph_timestamps.REDUCED]
    ready, reduced = _latest(group_ready), _latest(group_reduced)
    exchanged = ~np.isnan(reduced)
    rows["step"] = np.arange(first, first + len(begin))
    rows["begin"], rows["end"] = begin, end
    rows["input"] = got - asked
    rows["compute"] = ready - np.where(np.isnan(got), begin, got)
    rows["update"] = row[:, graph_timestamps.APPLIED] - np.where(exchanged, reduced, ready)
    rows["samples"] = taken[:, SAMPLES]
    known = exchanged if in_ring else np.zeros(len(begin), bool)
    hidden = covered(group_ready, group_reduced, ready)
    # Counts, not times: they must not be taken for marks of an earlier step.
    counted = (
        taken[:, HEAD + position]
        for position in (
            graph_timestamps.BYTES,
            graph_timestamps.EMBEDDING,
            graph_timestamps.REDONE,
        )
    )
    for name, value in zip(_OF_RING, (ready, reduced, hidden, *counted), strict=True):
        rows[name] = np.where(known, value, np.nan)
    return rows


def group_leads(taken: Array, rows: Array) -> Array:
    """Return how long before the last group of gradients each one was ready, of a step's computing.

    ``taken`` are the marks of the steps of ``rows``, see `step_rows`. The result has a row for each step whose
    exchange and computing were measured, and a column for each group, first ready first; NaN is no group.

    Examples:
        >>> taken, rows = np.full((1, HEAD + graph_timestamps.WIDTH), np.nan), empty_steps(1)
        >>> taken[0, HEAD:][graph_timestamps.READY] = [13.0, 11.0, np.nan, np.nan]
        >>> rows["ready"], rows["compute"] = 13.0, 4.0
        >>> group_leads(taken, rows).tolist()
        [[0.5, 0.0, nan, nan]]
    """
    known = np.isfinite(rows["ready"]) & (rows["compute"] > 0)
    ready = np.sort(taken[known, HEAD:][:, graph_timestamps.READY], axis=1)
    leads: Array = (rows["ready"][known, None] - ready) / rows["compute"][known, None]
    leads.clip(0.0, 1.0, out=leads)
    return leads


def covered(begins: Array, ends: Array, until: Array) -> Array:
    """Return how long at least one of the intervals was open before `until`, per row.

    `begins` and `ends` have shape [n, groups], `until` shape [n]; NaN intervals are
    skipped. Overlapping intervals are counted once.

    Examples:
        >>> covered(np.array([[0.0, 1.0]]), np.array([[2.0, 9.0]]), np.array([3.0]))
        array([3.])
    """
    order = np.argsort(begins, axis=1)
    starts = np.take_along_axis(begins, order, axis=1)
    stops = np.minimum(np.take_along_axis(ends, order, axis=1), until[:, None])
    seen = np.full_like(stops, -np.inf)
    np.fmax.accumulate(stops[:, :-1], axis=1, out=seen[:, 1:])
    total: Array = np.nansum(np.maximum(stops - np.fmax(starts, seen), 0.0), axis=1)
    return total


def _latest(times: Array) -> Array:
    """Return the largest value of each row that is not NaN; NaN where there is none."""
    latest: Array = np.fmax.reduce(times, axis=1)
    return latest
