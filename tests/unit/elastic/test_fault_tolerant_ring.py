"""A ring that outlives its ranks: killed, leaving, failing, two at once, in the last exchange.

Cases of Horovod's own elastic tests (``test/integration/elastic_common.py``) carry their names there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from eai_notebook.elastic.waiting_calls import Caller

Lines = list[dict[str, Any]]
Elastic = Callable[..., list[Lines]]

pytestmark = [pytest.mark.drill, pytest.mark.ranks]

LAST = 59
"""The program's last exchange."""

Event = tuple[int, int, str]


@pytest.mark.parametrize(
    "schedule",
    [
        pytest.param([(10, 0, "kill")], id="single_rank_failure"),
        # There a limit of one new ring ends the job; here there is none.
        pytest.param([(10, 0, "kill"), (20, 2, "kill"), (30, 1, "kill")], id="reset_limit"),
        # There no host of two is used again once a rank has died on each; here the other ranks go on.
        pytest.param([(10, 0, "kill"), (10, 2, "kill")], id="all_hosts_blacklisted"),
        pytest.param([(LAST, 2, "kill")], id="in the last exchange"),
        pytest.param([(10, 2, "leave"), (10, 1, "kill"), (30, 0, "leave")], id="some leave"),
        pytest.param(
            [(10, 0, "errs"), *((10, rank, "lies") for rank in (1, 2, 3)), (20, 3, "kill")],
            id="all but one have a sum that is none",
        ),
        pytest.param([(10, 0, "end launcher"), (20, 2, "kill")], id="after their launcher's end"),
    ],
)
def test_those_that_live_add_up_the_same(elastic_ranks: Elastic, schedule: list[Event]) -> None:
    gone = {rank for _, rank, what in schedule if what in ("kill", "leave")}
    live = [rank for rank in range(4) if rank not in gone]
    said = elastic_ranks("elastic_ring.py", 4, schedule, 1)
    assert not [line for lines in said for line in lines if "wrong" in line]
    for rank in live:
        assert said[rank][-1]["done"] == live
        assert sorted(number for lost in said[rank][-1]["lost"] for number in lost) == sorted(gone)


@pytest.mark.parametrize(
    ("schedule", "live", "joins"),
    [
        pytest.param(
            [
                *[(5, 1, "start 3"), (9, 1, "wait 3")],
                *[(30, 0, "leave"), (30, 1, "leave"), (30, 2, "leave")],
            ],
            [3],
            [],  # of others, after it has joined itself
            id="hosts_added_and_removed",
        ),
        pytest.param(
            [
                *[(5, 1, "start 3"), (6, 0, "start 4"), (9, 1, "wait 3"), (9, 0, "wait 4")],
                *[(30, 1, "kill"), (30, 3, "kill"), (40, 0, "kill")],
            ],
            [2, 4],
            [[4], [3]],
            id="two, and then their sponsors die",
        ),
        pytest.param(
            [(5, 1, "kill"), (9, 0, "start 1"), (12, 0, "wait 1")],
            [0, 2, 1],
            [[1]],
            id="fault_tolerance_without_scaling",
        ),
        pytest.param(
            [(5, 1, "start 3"), (9, 1, "wait 3"), (-1, 3, "before")],
            [0, 1, 2],
            [],
            id="dies before it connects",
        ),
        pytest.param(
            [(5, 1, "start 3"), (9, 1, "wait 3"), (-1, 3, "after")],
            [0, 1, 2],
            [],
            id="dies when it has connected",
        ),
        pytest.param(
            [(5, 1, "start 3"), (9, 1, "wait 3"), (10, 2, "kill"), (10, 0, "kill")],
            [1, 3],
            [[3]],
            id="others die as it comes in",
        ),
    ],
)
def test_newcomers_come_in_and_the_sums_stay(
    elastic_ranks: Elastic, schedule: list[Event], live: list[int], joins: list[list[int]]
) -> None:
    said = elastic_ranks("elastic_ring.py", 3, schedule, 1)
    assert not [line for lines in said for line in lines if "wrong" in line]
    of_first = said[live[0]][-1]
    assert of_first["done"] == live
    assert of_first["joined"] == joins
    for rank in live:
        assert said[rank][-1]["done"] == live


def test_an_error_of_one_is_no_death_and_ends_all(elastic_ranks: Elastic) -> None:
    said = elastic_ranks("elastic_ring.py", 3, [(10, 2, "fail")], 1)
    assert [lines[-1]["code"] for lines in said] == ["peer-failed", "peer-failed", "own"]


def test_min_hosts_timeout(elastic_ranks: Elastic) -> None:
    """Two ranks are the least: one alone does not go on, and does not wait for others either."""
    said = elastic_ranks("elastic_ring.py", 3, [(10, 0, "kill"), (20, 1, "kill")], 2)
    assert said[2][-1] == {"code": "too-few-ranks"}


def test_all_ranks_failure(elastic_ranks: Elastic) -> None:
    said = elastic_ranks("elastic_ring.py", 3, [(10, rank, "kill") for rank in range(3)], 1)
    assert not [line for lines in said for line in lines if "done" in line]


def test_a_call_that_goes_on_does_not_hold_up_the_next() -> None:
    import threading

    caller, held = Caller(), threading.Event()
    assert caller.try_for(0.0, held.wait) is None
    assert caller.run(lambda: 7) == 7
    held.set()
    with pytest.raises(KeyError):
        caller.run(lambda: {1: 2}[3])
