from __future__ import annotations

import pytest

from eai_notebook.errors import EaiError
from eai_notebook.session.rank_sets import format_ranks, name_ranks, parse_ranks


def test_ranges_and_single_ranks_are_each_named_once() -> None:
    assert parse_ranks("2-3, 0,3", 4) == [0, 2, 3]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not a list of ranks"),
        ("a", "not a list of ranks"),
        ("1-", "not a list of ranks"),
        ("-1", "not a list of ranks"),
        ("3-1", "counts down"),
        ("0-4", "no rank 4 in a group of 4"),
    ],
)
def test_a_wrong_list_is_refused_with_its_remedy(text: str, said: str) -> None:
    with pytest.raises(EaiError, match=said) as caught:
        parse_ranks(text, 4)
    assert caught.value.remedy


def test_ranks_are_written_as_short_as_they_are_read() -> None:
    ranks = [7, 0, 2, 3, 4]
    assert format_ranks(ranks) == "0,2-4,7"
    assert parse_ranks(format_ranks(ranks), 8) == sorted(ranks)


def test_one_rank_is_not_plural() -> None:
    assert [name_ranks([3]), name_ranks([0, 1])] == ["rank 3", "ranks 0-1"]
