"""From the marks of some steps to their rows; plain NumPy, so that it can be checked alone."""

from __future__ import annotations

from typing import Final

import numpy as np

from eai_notebook.ledger.step import STEP_DTYPE
from eai_notebook.train import marks

SAMPLES: Final = 2
HEAD: Final = 3
"""Marks of the input, in front of `marks.row`'s: asked for a batch, got it, its samples."""

Array = np.ndarray


def step_rows(first: int, begin: Array, end: Array, taken: Array, *, in_ring: bool) -> Array:
    """Return the rows of consecutive steps, of which `first` is the first one's number.

    `begin` and `end` have shape [n] and are seconds since the epoch; `taken` has shape
    [n, HEAD + marks.WIDTH]. Marks older than their step are left-overs of an earlier one
    and count as missing. Without a ring there is nothing to wait for: ``ready`` and
    ``reduced`` are missing then, as they are in a step without an exchange.
    """
    rows = np.empty(len(begin), STEP_DTYPE)
    asked, got, samples = taken[:, 0], taken[:, 1], taken[:, SAMPLES]
    row = taken[:, HEAD:]
    times = np.where(row >= begin[:, None], row, np.nan)
    group_ready, group_reduced = times[:, marks.READY], times[:, marks.REDUCED]
    ready, reduced = _latest(group_ready), _latest(group_reduced)
    exchanged = ~np.isnan(reduced)
    in_hand = np.where(np.isnan(got), begin, got)
    rows["step"] = np.arange(first, first + len(begin))
    rows["begin"], rows["end"] = begin, end
    rows["input"] = got - asked
    rows["compute"] = ready - in_hand
    rows["ready"] = np.where(exchanged & in_ring, ready, np.nan)
    rows["reduced"] = np.where(exchanged & in_ring, reduced, np.nan)
    rows["update"] = times[:, marks.APPLIED] - np.where(exchanged, reduced, ready)
    rows["hidden"] = np.where(
        exchanged & in_ring, covered(group_ready, group_reduced, ready), np.nan
    )
    rows["samples"] = samples
    rows["bytes"] = np.where(exchanged & in_ring, row[:, marks.BYTES], np.nan)
    return rows


def covered(begins: Array, ends: Array, until: Array) -> Array:
    """Return how long at least one of the intervals was open before `until`, per row.

    `begins` and `ends` have shape [n, groups], `until` shape [n]; NaN intervals are
    skipped. Overlapping intervals are counted once.

    Example:
        >>> covered(np.array([[0.0, 1.0]]), np.array([[2.0, 9.0]]), np.array([3.0]))
        array([3.])
    """
    order = np.argsort(begins, axis=1)
    starts = np.take_along_axis(begins, order, axis=1)
    stops = np.minimum(np.take_along_axis(ends, order, axis=1), until[:, None])
    total = np.zeros(len(until))
    seen = np.full(len(until), -np.inf)
    for start, stop in zip(starts.T, stops.T, strict=True):
        total += np.nan_to_num(np.maximum(stop - np.maximum(start, seen), 0.0))
        seen = np.fmax(seen, stop)
    return total


def _latest(times: Array) -> Array:
    """Return the largest value of each row that is not NaN; NaN where there is none."""
    filled = np.where(np.isnan(times), -np.inf, times).max(axis=1)
    return np.where(np.isfinite(filled), filled, np.nan)
