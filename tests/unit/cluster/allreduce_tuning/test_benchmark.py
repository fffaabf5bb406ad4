"""What the look at a link times, and what it gives up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from eai_notebook.cluster.allreduce_tuning import benchmark

if TYPE_CHECKING:
    from collections.abc import Iterator

NOTHING: Any = None


def sums_that_take(seconds: list[float], monkeypatch: pytest.MonkeyPatch) -> Iterator[float]:
    left = iter(seconds)
    monkeypatch.setattr(benchmark, "_one", lambda *_: next(left))
    return left


def test_short_sums_are_timed_when_the_link_s_queues_are_full(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    left = sums_that_take([0.001, 0.002, 0.030, 0.011, 0.012, 0.013, 9.0], monkeypatch)
    assert benchmark._some(NOTHING, NOTHING, NOTHING, 1 << 16) == [0.011, 0.012, 0.013]
    assert list(left) == [9.0]


def test_a_long_sum_is_timed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    left = sums_that_take([0.4, 9.0], monkeypatch)
    assert benchmark._some(NOTHING, NOTHING, NOTHING, 16 << 20) == [0.4]
    assert list(left) == [9.0]


@pytest.mark.parametrize(
    ("size", "given_up"), [(16 << 10, set()), (1 << 20, {2}), (4 << 20, {1, 2})]
)
def test_slow_with_short_messages_may_be_quick_with_long_ones(
    size: int, given_up: set[int]
) -> None:
    times = {0: [1.4, 1.4], 1: [1.3, 1.3], 2: [1.7, 1.7], 3: [1.0, 1.0]}
    assert benchmark._hopeless_from(size, times) == given_up


def test_on_a_slow_link_one_try_of_each_candidate_does() -> None:
    one, three = {0: [9.0], 1: [9.5], 2: [20.0]}, {0: [0.2] * 3, 1: [0.2] * 3}
    assert benchmark._still_running(one, 2.0, 1.0) == [0, 1]
    assert benchmark._still_running(one, 38.5, 1.0) == []
    assert benchmark._still_running(three, 1.2, 1.0) == []
