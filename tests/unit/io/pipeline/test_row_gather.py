from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from eai_notebook.io.memory.alignment import is_aligned
from eai_notebook.io.pipeline.row_gather import RowView

if TYPE_CHECKING:
    from eai_notebook.io.part import Columns

SIZES = (5, 0, 1, 700, 64)


def pieces() -> list[Columns]:
    rng = np.random.default_rng(0)
    return [
        {
            "one": rng.integers(0, 255, size, np.uint8),
            "four": rng.random((size, 1), np.float32),
            "eight": rng.random(size),
            "odd": rng.integers(0, 99, (size, 3, 5), np.uint8),
            "many": rng.random((size, 26)).astype(np.float32)[:, ::2],
            "apart": rng.integers(0, 99, (size, 9))[:, 2:5],
            "text": np.array([f"{rng.integers(99)}" for _ in range(size)], object),
            "none": np.empty((size, 0), np.float32),
        }
        for size in SIZES
    ]


def same(ours: Columns, wanted: Columns) -> None:
    assert list(ours) == list(wanted)
    for name, column in wanted.items():
        assert ours[name].dtype == column.dtype
        np.testing.assert_array_equal(ours[name], column)


def test_rows_in_any_order_are_those_of_the_pieces_put_together() -> None:
    parts = pieces()
    whole: dict[str, Any] = {
        name: np.concatenate([part[name] for part in parts]) for name in parts[0]
    }
    order = np.random.default_rng(1).permutation(sum(SIZES))
    view = RowView(parts)
    assert view.rows == sum(SIZES)
    for chosen in (order, order[:3], order[:0]):
        gathered = view.gather(chosen)
        same(gathered, {name: column[chosen] for name, column in whole.items()})
        plain = [column for name, column in gathered.items() if name not in {"text", "none"}]
        assert all(is_aligned(column) for column in plain if column.size)


@pytest.mark.parametrize("span", [(0, 770), (0, 5), (3, 7), (5, 6), (6, 706), (700, 770), (4, 4)])
def test_a_stretch_of_rows_is_that_of_the_pieces_put_together(span: tuple[int, int]) -> None:
    parts = pieces()
    begin, end = span
    same(
        RowView(parts).slice(begin, end),
        {name: np.concatenate([part[name] for part in parts])[begin:end] for name in parts[0]},
    )


def test_no_rows_at_all() -> None:
    empty = [{"x": np.empty((0, 2), np.float32)}] * 2
    assert RowView(empty).rows == 0
    assert RowView(empty).gather(np.empty(0, np.int64))["x"].shape == (0, 2)
    assert RowView(empty).slice(0, 0)["x"].shape == (0, 2)


def test_a_piece_of_just_the_rows_asked_for_is_handed_on_as_it_lies() -> None:
    parts = pieces()
    view = RowView(parts)
    found = view.slice(6, 706)
    assert all(found[name] is column for name, column in parts[3].items())
    found["weight"] = np.ones(700)
    assert "weight" not in parts[3]
