from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from expected_errors import raises_code

from eai_notebook.datasets.query_logs import make_queries, read_queries

if TYPE_CHECKING:
    from pathlib import Path


def test_the_log_is_as_planted(tmp_path: Path) -> None:
    truth = make_queries(tmp_path / "a", titles=50, rows=300, test_rows=40, shown=2, seed=1)
    make_queries(tmp_path / "b", titles=50, rows=300, test_rows=40, shown=2, seed=1)
    assert (tmp_path / "a/train.tsv").read_bytes() == (tmp_path / "b/train.tsv").read_bytes()
    titles = (tmp_path / "a/titles.txt").read_text().splitlines()
    train, test = (read_queries(tmp_path / f"a/{name}.tsv") for name in ("train", "test"))
    assert (len(set(titles)), len(train), len(test)) == (50, 300, 40)
    assert (truth.titles, truth.train_rows, truth.test_rows) == (50, 300, 40)
    assert not set(test.queries) & set(train.queries)
    assert set(train.clicked) <= set(titles)
    assert all(
        clicked not in shown for clicked, shown in zip(train.clicked, train.shown, strict=True)
    )


def test_words_alone_cannot_find_every_title(tmp_path: Path) -> None:
    make_queries(tmp_path, titles=100, rows=400, test_rows=10)
    log = read_queries(tmp_path / "train.tsv")
    share = [
        bool(set(q.split()) & set(t.split())) for q, t in zip(log.queries, log.clicked, strict=True)
    ]
    assert 0.4 < sum(share) / len(share) < 0.9


def test_ranks_get_equal_parts(tmp_path: Path) -> None:
    make_queries(tmp_path, titles=20, rows=11, test_rows=1)
    log = read_queries(tmp_path / "train.tsv")
    parts = [log.part(rank, 2) for rank in range(2)]
    assert [part.queries for part in parts] == [log.queries[0:10:2], log.queries[1:10:2]]


@pytest.mark.parametrize("row", ["only a query", "a\tb", "a\t\tc", ""])
def test_a_bad_row_is_named(tmp_path: Path, row: str) -> None:
    (tmp_path / "log.tsv").write_text(f"query\tclicked\tshown\n{row}\n")
    with raises_code("row-bad", "log.tsv", "row 2"):
        read_queries(tmp_path / "log.tsv")


def test_senseless_numbers_are_refused(tmp_path: Path) -> None:
    with raises_code("option-invalid", "5 titles"):
        make_queries(tmp_path, titles=5)
