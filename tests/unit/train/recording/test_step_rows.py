"""From marks to rows: each part, what is missing, and communication that is hidden."""

from __future__ import annotations

import numpy as np
import pytest

from eai_notebook.train.recording import graph_timestamps
from eai_notebook.train.recording.step_rows import HEAD, covered, step_rows


def one_step(*, ready: list[float], reduced: list[float], begin: float = 100.0) -> np.ndarray:
    taken = np.full((1, HEAD + graph_timestamps.WIDTH), np.nan)
    taken[0, :HEAD] = 100.001, 100.003, 64.0
    row = taken[0, HEAD:]
    row[graph_timestamps.BYTES], row[graph_timestamps.APPLIED] = 4000.0, 100.019
    row[graph_timestamps.READY][: len(ready)] = ready
    row[graph_timestamps.REDUCED][: len(reduced)] = reduced
    return taken


def test_the_parts_of_a_step_with_two_groups() -> None:
    taken = one_step(ready=[100.008, 100.010], reduced=[100.012, 100.018])
    rows = step_rows(7, np.array([100.0]), np.array([100.02]), taken, in_ring=True)
    row = rows[0]
    assert (row["step"], row["samples"], row["bytes"]) == (7, 64, 4000)
    assert row["input"] == pytest.approx(0.002)
    assert row["compute"] == pytest.approx(0.007)
    assert row["ready"] == pytest.approx(100.010)
    assert row["reduced"] == pytest.approx(100.018)
    assert row["update"] == pytest.approx(0.001)
    assert row["hidden"] == pytest.approx(0.002)


def test_without_a_ring_the_exchange_is_missing_not_zero() -> None:
    taken = one_step(ready=[100.010], reduced=[100.012])
    row = step_rows(0, np.array([100.0]), np.array([100.02]), taken, in_ring=False)[0]
    assert np.isnan([row["ready"], row["reduced"], row["hidden"], row["bytes"]]).all()
    assert row["compute"] == pytest.approx(0.007)


def test_a_step_that_accumulates_only_has_no_exchange() -> None:
    taken = one_step(ready=[100.010], reduced=[])
    row = step_rows(0, np.array([100.0]), np.array([100.02]), taken, in_ring=True)[0]
    assert np.isnan([row["ready"], row["reduced"], row["hidden"], row["bytes"]]).all()
    assert row["update"] == pytest.approx(0.009)


def test_marks_left_over_from_an_earlier_step_count_as_missing() -> None:
    taken = one_step(ready=[100.010], reduced=[100.012])
    taken[0, :HEAD] = 200.001, 200.002, 64.0
    row = step_rows(0, np.array([200.0]), np.array([200.01]), taken, in_ring=True)[0]
    assert np.isnan([row["compute"], row["update"], row["reduced"]]).all()
    assert row["input"] == pytest.approx(0.001)


def test_overlapping_and_separate_intervals_are_counted_once() -> None:
    begins = np.array([[5.0, 1.0, 2.0, np.nan]])
    ends = np.array([[5.5, 3.0, 2.5, np.nan]])
    assert covered(begins, ends, np.array([6.0])).tolist() == [2.5]


def test_neighbours_are_grouped_and_none_is_lost() -> None:
    for count in (0, 1, 7, 8, 9, 1000):
        groups = graph_timestamps.groups(count)
        assert len(groups) <= graph_timestamps.GROUPS
        assert [i for group in groups for i in group] == list(range(count))
