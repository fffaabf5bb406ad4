from __future__ import annotations

import numpy as np
import pytest
from synthetic import run_rows

from eai_notebook.ledger.aggregate import MOST_BUCKETS, MOST_STEPS_KEPT, RECENT_STEPS, Summary
from eai_notebook.ledger.merge import OTHER, Ledger, mean, merge


def summed(ledger: Ledger, cuts: list[int]) -> Summary:
    summary = Summary()
    for piece in np.split(np.arange(len(ledger.steps)), cuts):
        summary.add(ledger.select(piece))
    return summary


def test_the_order_of_pieces_makes_no_difference() -> None:
    ledger = merge(run_rows(2, 5003), {})
    whole = summed(ledger, [])
    for cuts in ([1, 2, 700, 4999], list(range(0, 5003, 37))):
        pieces = summed(ledger, cuts)
        assert (pieces.width, pieces.steps) == (whole.width, whole.steps) == (32, 5003)
        np.testing.assert_array_equal(pieces.starts, whole.starts)
        np.testing.assert_array_equal(pieces.kept.steps, whole.kept.steps)
        np.testing.assert_array_equal(pieces.recent.steps, whole.recent.steps)
        np.testing.assert_allclose(pieces.parts, whole.parts)
        np.testing.assert_allclose(pieces.own, whole.own)
        np.testing.assert_allclose(pieces.spent, whole.spent)


def test_buckets_hold_the_means_of_their_steps() -> None:
    ledger = merge(run_rows(3, 1000), {})
    summary = summed(ledger, [333])
    assert len(summary.starts) <= MOST_BUCKETS
    for place, first in enumerate(summary.starts):
        steps = slice(first, first + summary.width)
        expected = mean(mean(ledger.parts, axis=0)[steps], axis=0)
        np.testing.assert_allclose(summary.parts[place], expected)
        own = np.nansum(ledger.parts[:, :, [0, 1, 4, OTHER]], axis=2)
        if first:  # the first step, which compiles, has no parts and so no own time
            np.testing.assert_allclose(summary.own[:, place], own[:, steps].mean(axis=1))


def test_a_million_steps_are_kept_in_little() -> None:
    summary = Summary()
    ledger = merge(run_rows(2, 1000), {})
    for start in range(0, 1_000_000, 1000):
        ledger.steps[:] = np.arange(start, start + 1000)
        summary.add(ledger)
    assert summary.steps == 1_000_000
    assert MOST_BUCKETS / 2 <= len(summary.starts) <= MOST_BUCKETS
    assert MOST_STEPS_KEPT / 2 <= len(summary.kept.steps) <= MOST_STEPS_KEPT
    assert len(summary.recent.steps) == RECENT_STEPS
    assert summary.wall == pytest.approx(1000 * float(np.nansum(ledger.wall)))


def test_of_steps_that_were_not_measured_only_strikingly_long_ones_are_told() -> None:
    rows = run_rows(2, 400, compile_step=False)
    for own in rows.values():
        skipped = np.arange(400) % 8 != 0
        for name in ("input", "compute", "ready", "reduced", "update"):
            own[name][skipped] = np.nan
        own["end"][203] += 1.0
        own["begin"][204:] += 1.0
        own["end"][204:] += 1.0
    ledger = merge(rows, {})
    for cuts in ([], [5, 14, 203, 204, 301]):
        summary = summed(ledger, cuts)
        assert summary.steps == 400
        assert summary.starts.tolist() == sorted([*range(0, 400, 8), 203])
        assert summary.spent.sum() == pytest.approx(summary.wall, rel=0.01)
        assert summary.spent[OTHER] == pytest.approx(2 * (1 + 400 * 0.0003), rel=0.1)
        assert summary.wall == pytest.approx(np.nansum(ledger.wall))
