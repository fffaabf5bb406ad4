from __future__ import annotations

from functools import reduce

import numpy as np
import pytest
from synthetic import START, run_rows

from eai_notebook.ledger.merge import GrowingLedger, Ledger, append, mean_parts, merge
from eai_notebook.ledger.parts import INPUT, OTHER, TRANSFER, UPDATE, WAIT_PEER
from eai_notebook.ledger.step_schema import STEP_DTYPE, empty_steps


def two_ranks() -> dict[int, np.ndarray]:
    """Rank 1's gradients come 2 s after rank 0's; the exchange then takes 0.5 s."""
    rows = {rank: empty_steps(1) for rank in range(2)}
    for rank, compute in (0, 1.0), (1, 3.0):
        row = rows[rank]
        row["begin"], row["input"], row["compute"] = 10.0, 0.25, compute
        row["ready"], row["reduced"] = 10.25 + compute, 13.75
        row["update"], row["end"] = 0.25, 14.5
    return rows


def test_waiting_is_split_from_moving_and_booked_to_the_last_rank() -> None:
    ledger = merge(two_ranks(), {})
    np.testing.assert_allclose(ledger.parts[0, 0], [0.25, 1.0, 2.0, 0.5, 0.25, 0.5])
    np.testing.assert_allclose(ledger.parts[1, 0], [0.25, 3.0, 0.0, 0.5, 0.25, 0.5])
    assert ledger.last_rank.tolist() == [1]


def test_stamps_are_compared_on_rank_0s_clock() -> None:
    rows = two_ranks()
    for stamp in ("begin", "end", "ready", "reduced"):
        rows[1][stamp] -= 100.0
    ledger = merge(rows, {0: 0.0, 1: 100.0})
    np.testing.assert_allclose(ledger.parts[:, 0, WAIT_PEER], [2.0, 0.0])
    np.testing.assert_allclose(ledger.end[:, 0], 14.5)


def test_clocks_that_contradict_each_other_are_not_believed() -> None:
    rows = two_ranks()
    rows[0]["reduced"] = 12.0  # its clock is a little off: nothing can come before it is sent
    ledger = merge(rows, {})
    np.testing.assert_allclose(ledger.parts[:, 0, WAIT_PEER], [0.25, 0.0])
    np.testing.assert_allclose(ledger.parts[:, 0, TRANSFER], [0.5, 0.5])
    assert ledger.last_rank.tolist() == [1]


@pytest.mark.parametrize("off", [0.050, -0.050, 3.0])
@pytest.mark.parametrize("late", [0, 1, 2])
def test_without_clocks_the_split_is_the_same(off: float, late: int) -> None:
    rows = run_rows(3, 100, late={late: {"compute": 0.010}}, compile_step=False)
    right = merge(rows, {})
    np.testing.assert_allclose(right.unaligned, right.parts[:, :, WAIT_PEER], atol=1e-6)
    for stamp in ("begin", "end", "ready", "reduced"):
        rows[1][stamp] += off
    wrong = merge(rows, {})
    np.testing.assert_allclose(wrong.parts, right.parts, atol=1e-6)
    np.testing.assert_array_equal(wrong.last_rank, right.last_rank)


def test_a_wait_that_is_shorter_than_the_doubt_about_clocks_is_reported_by_durations() -> None:
    rows = run_rows(2, 50, late={1: {"compute": 0.002}}, compile_step=False)
    for stamp in ("begin", "end", "ready", "reduced"):
        rows[1][stamp] -= 0.0009  # so little that nothing contradicts itself
    ledger = merge(rows, {}, {1: 0.005})
    assert ledger.parts[0, :, WAIT_PEER].mean() == pytest.approx(0.002, abs=0.0003)
    trusted = merge(rows, {}, {1: 0.0001})
    assert trusted.parts[0, :, WAIT_PEER].mean() == pytest.approx(0.0011, abs=0.0003)


def test_what_of_other_has_a_name_is_never_more_than_other() -> None:
    rows = two_ranks()
    rows[0]["callback"], rows[0]["collector"] = 0.75, 0.25
    rows[1]["iterator"] = 0.125
    ledger = merge(rows, {})
    np.testing.assert_allclose(ledger.named[0, 0, [0, 4]], [0.375, 0.125])
    assert ledger.named[1, 0, 2] == 0.125
    assert np.isnan(ledger.named[1, 0, 0])
    np.testing.assert_allclose(ledger.ahead[:, 0], 0.0)


def test_means_of_parts_add_up_whatever_is_missing() -> None:
    rows = run_rows(3, 60, compile_step=False)
    rows[0]["input"][::3] = np.nan
    rows[1]["update"][1::2] = np.nan
    for axis in (0, 1, (0, 1)):
        means = mean_parts(ledger := merge(rows, {}), axis=axis)
        np.testing.assert_allclose(means.sum(axis=-1), ledger.wall.mean(axis=axis))


def test_what_was_not_measured_is_missing_and_its_time_shows_as_other() -> None:
    rows = two_ranks()
    rows[0]["input"] = np.nan
    ledger = merge(rows, {})
    assert np.isnan(ledger.parts[0, 0, INPUT])
    assert ledger.parts[0, 0, OTHER] == pytest.approx(0.75)


def test_without_an_exchange_both_of_its_parts_are_missing() -> None:
    rows = empty_steps(3)
    rows["begin"], rows["end"], rows["compute"] = np.arange(3), np.arange(3) + 1, 0.75
    ledger = merge({0: rows}, {})
    assert np.isnan(ledger.parts[0, :, [WAIT_PEER, TRANSFER]]).all()
    np.testing.assert_allclose(ledger.parts[0, :, OTHER], 0.25)
    assert ledger.last_rank.tolist() == [-1, -1, -1]


def test_a_step_that_a_rank_did_not_send_is_missing_there_and_not_split_elsewhere() -> None:
    rows = run_rows(3, 10, compile_step=False)
    rows[2] = rows[2][:6]
    ledger = merge(rows, {})
    assert np.isnan(ledger.parts[2, 6:]).all()
    assert np.isnan(ledger.parts[:2, 6:, WAIT_PEER]).all()
    assert (ledger.last_rank[6:] == -1).all()
    np.testing.assert_allclose(np.nansum(ledger.parts[:2], axis=2), ledger.wall[:2])


def test_ranks_and_steps_need_not_begin_at_zero() -> None:
    rows = run_rows(2, 6, compile_step=False)
    rows = {3: rows[0][2:], 7: rows[1][:5]}
    ledger = merge(rows, {})
    assert ledger.ranks == (3, 7)
    assert ledger.steps.tolist() == list(range(6))
    assert set(ledger.last_rank[2:5].tolist()) <= {3, 7}
    assert ledger.last_rank[[0, 1, 5]].tolist() == [-1, -1, -1]


def test_a_negative_part_becomes_other() -> None:
    rows = two_ranks()
    rows[0]["update"] = -0.25
    ledger = merge(rows, {})
    assert ledger.parts[0, 0, UPDATE] == 0
    assert ledger.parts[0, 0, OTHER] == pytest.approx(0.75)
    assert ledger.clamped.tolist() == [[True], [False]]


def test_parts_longer_than_the_step_are_cut_from_its_end() -> None:
    rows = two_ranks()
    rows[0]["end"] = 13.0
    ledger = merge(rows, {})
    np.testing.assert_allclose(ledger.parts[0, 0], [0.25, 1.0, 1.75, 0.0, 0.0, 0.0])
    assert ledger.clamped[0, 0]


def test_a_step_that_ends_before_it_begins_was_not_measured() -> None:
    rows = two_ranks()
    rows[0]["end"] = 9.0
    ledger = merge(rows, {})
    assert np.isnan(ledger.wall[0, 0])
    assert np.isnan(ledger.parts[0]).all()


@pytest.mark.parametrize("seed", range(25))
def test_whatever_the_rows_say_the_parts_add_up_to_the_wall_time(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = {}
    for rank in range(int(rng.integers(1, 6))):
        own = empty_steps(int(rng.integers(1, 40)))
        own["begin"] = START + np.arange(len(own)) * 0.02
        for name, reach in ("end", 0.02), ("ready", 0.02), ("reduced", 0.025):
            own[name] = own["begin"] + rng.uniform(-0.002, reach, len(own))
        for name in ("input", "compute", "update"):
            own[name] = rng.uniform(-0.002, 0.015, len(own))
        for name in ("input", "compute", "ready", "reduced", "update"):
            own[name][rng.random(len(own)) < 0.1] = np.nan
        rows[rank] = own
    ledger = merge(rows, {rank: float(rng.normal(0, 1e-4)) for rank in rows})
    known = np.isfinite(ledger.wall)
    np.testing.assert_allclose(
        np.nansum(ledger.parts, axis=2)[known], ledger.wall[known], rtol=0, atol=1e-15
    )
    assert (ledger.parts[np.isfinite(ledger.parts)] >= 0).all()
    for rank, own in rows.items():
        place = ledger.ranks.index(rank)
        missing = np.isnan(own["compute"])
        assert np.isnan(ledger.parts[place, : len(own), 1][missing]).all()


def test_typical_steps_leave_out_what_was_not_measured_and_the_slowest() -> None:
    rows = run_rows(2, 101)
    for own in rows.values():
        own["end"][50] += 3.0  # a checkpoint
        own["begin"][51:] += 3.0
        for stamp in ("end", "ready", "reduced"):
            own[stamp][51:] += 3.0
    typical = merge(rows, {}).typical()
    assert 0 not in typical.steps
    assert 50 not in typical.steps
    assert len(typical.steps) == 98


def test_nothing_merges_to_nothing() -> None:
    ledger = merge({}, {})
    assert ledger.parts.shape == (0, 0, 6)
    assert len(merge({0: np.empty(0, STEP_DTYPE)}, {}).typical().steps) == 0


def test_a_growing_ledger_hands_out_each_step_once() -> None:
    rows = run_rows(3, 50)
    growing = GrowingLedger(size=3)
    for rank in rows:
        growing.begin(rank, clock_offset=0.0)
    sent = dict.fromkeys(rows, 0)
    rng = np.random.default_rng(0)
    pieces: list[Ledger] = []
    while any(sent[rank] < 50 for rank in rows):
        rank = int(rng.integers(0, 3))
        until = min(50, sent[rank] + int(rng.integers(1, 9)))
        growing.add(rank, rows[rank][sent[rank] : until])
        sent[rank] = until
        pieces.append(growing.take())
        assert sum(len(piece.steps) for piece in pieces) == min(sent.values())
    assert_same(reduce(append, pieces), merge(rows, {}))
    assert len(growing.rest().steps) == 0


def test_a_growing_ledger_waits_for_a_rank_that_has_not_begun() -> None:
    rows = run_rows(2, 5)
    growing = GrowingLedger(size=2)
    growing.begin(0, clock_offset=0.0)
    growing.add(0, rows[0])
    assert len(growing.take().steps) == 0
    growing.begin(1, clock_offset=0.0)
    growing.add(1, rows[1])
    assert_same(growing.take(), merge(rows, {}))


def assert_same(one: Ledger, other: Ledger) -> None:
    assert one.ranks == other.ranks
    for name in ("steps", "parts", "wall", "hidden", "samples", "bytes", "last_rank", "end"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
