from __future__ import annotations

import numpy as np
import pytest
from synthetic import run_rows

from eai_notebook.ledger.aggregate import MOST_BUCKETS, MOST_STEPS_KEPT, RECENT_STEPS, Summary
from eai_notebook.ledger.arrays import mean
from eai_notebook.ledger.merge import Ledger, merge
from eai_notebook.ledger.parts import OTHER


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
        np.testing.assert_array_equal(pieces.stops, whole.stops)
        np.testing.assert_allclose(pieces.unmeasured, whole.unmeasured)
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
        # The first step compiles: it has no parts, and its length is no part's.
        measured = slice(max(first, 1), steps.stop)
        share = 1 - (first == 0) / summary.width
        expected = share * mean(mean(ledger.parts, axis=0)[measured], axis=0)
        np.testing.assert_allclose(summary.parts[place], expected)
        length = np.nansum(summary.parts[place]) + summary.unmeasured[place]
        np.testing.assert_allclose(length, ledger.wall[:, steps].mean())
        own = np.nansum(ledger.parts[:, :, [0, 1, 4, OTHER]], axis=2)
        if first:  # the first step, which compiles, has no parts and so no own time
            np.testing.assert_allclose(summary.own[:, place], own[:, steps].mean(axis=1))


def test_steps_that_no_rank_wrote_are_a_gap_between_buckets() -> None:
    ledger = merge(run_rows(2, 100, compile_step=False), {})
    summary = summed(ledger.select(np.r_[0:30, 60:100]), [20])
    assert (summary.starts[30], summary.stops[29]) == (60, 30)
    assert summary.stops[-1] == 100


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


def test_of_steps_that_were_not_measured_only_strikingly_long_ones_are_reported() -> None:
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
        starts = sorted([*range(0, 400, 8), 203])
        assert summary.starts.tolist() == starts
        assert summary.stops.tolist() == [*starts[1:], 400]
        at = starts.index(203)
        assert summary.unmeasured[at] == pytest.approx(1.0, rel=0.1)
        assert np.isnan(summary.parts[at]).all() or not np.nansum(summary.parts[at])
        assert np.count_nonzero(summary.unmeasured) == 1
        assert summary.longest is not None
        assert summary.longest[0] == 203
        assert summary.longest[1] == pytest.approx(1.0, rel=0.1)
        whole = summary.spent.sum() + summary.spent_unmeasured
        assert whole == pytest.approx(summary.wall, rel=0.01)
        assert summary.spent[OTHER] == pytest.approx(2 * 400 * 0.0003, rel=0.1)
        assert summary.spent_unmeasured == pytest.approx(2, rel=0.02)
        assert summary.wall == pytest.approx(np.nansum(ledger.wall))


def test_buckets_add_up_where_some_ranks_miss_a_part_in_some_steps() -> None:
    rows = run_rows(3, 600)
    rows[0]["input"][::5] = np.nan
    rows[1]["update"][1::3] = np.nan
    for own in rows.values():
        own["compute"][300:304] = np.nan
    ledger = merge(rows, {})
    summary = summed(ledger, [7, 333])
    lengths = np.nansum(summary.parts, axis=1) + summary.unmeasured
    for place, first in enumerate(summary.starts):
        steps = slice(first, first + summary.width)
        assert lengths[place] == pytest.approx(ledger.wall[:, steps].mean(), rel=1e-6)
