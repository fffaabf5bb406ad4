"""`fit` for ranks that come and go: the losses of every step are those of an undisturbed run."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    from pathlib import Path

Lines = list[dict[str, Any]]
Elastic = Callable[..., list[Lines]]

pytestmark = pytest.mark.ranks

PROGRAM = "elastic_fit.py"


@pytest.fixture(scope="module")
def undisturbed(elastic_ranks: Elastic) -> Lines:
    """What a run of one process, with four virtual ranks, has to say."""
    return elastic_ranks(PROGRAM, 1, [], {})[0]


def losses(lines: Lines) -> list[float]:
    """Return the loss of every step."""
    return [line["loss"] for line in lines if "loss" in line]


def assert_same(lines: Lines, other: Lines) -> None:
    """Check that two ranks have seen the same training."""
    np.testing.assert_allclose(losses(lines), losses(other), rtol=1e-6)
    for name, values in other[-1]["history"].items():
        np.testing.assert_allclose(lines[-1]["history"][name], values, rtol=1e-5, err_msg=name)


@pytest.mark.parametrize(
    "live",
    [pytest.param(2, marks=pytest.mark.drill), 3, pytest.param(4, marks=pytest.mark.drill)],
)
def test_any_number_of_ranks_gives_the_same_losses(
    elastic_ranks: Elastic, undisturbed: Lines, live: int
) -> None:
    for lines in elastic_ranks(PROGRAM, live, [], {}):
        assert_same(lines, undisturbed)


@pytest.mark.drill
@pytest.mark.parametrize(
    "schedule",
    [
        pytest.param([(5, 1, "kill"), (12, 0, "kill")], id="killed, and then the first"),
        pytest.param([(5, 0, "leave"), (9, 2, "kill")], id="left on notice, and killed"),
    ],
)
def test_losses_stay_the_same_when_ranks_go(
    elastic_ranks: Elastic, undisturbed: Lines, schedule: list[Any]
) -> None:
    gone = {rank: step for step, rank, _ in schedule}
    for rank, lines in enumerate(elastic_ranks(PROGRAM, 3, schedule, {})):
        if rank not in gone:
            assert_same(lines, undisturbed)
            continue
        steps = losses(lines)
        np.testing.assert_allclose(steps, losses(undisturbed)[: len(steps)], rtol=1e-6)
        assert len(steps) - gone[rank] in (0, 1)  # one that leaves ends its step


@pytest.mark.drill
@pytest.mark.parametrize(
    ("schedule", "number"),
    [
        pytest.param([(3, 1, "start 2"), (5, 1, "wait"), (6, 1, "wait")], 2, id="one more"),
        pytest.param(
            [(2, 0, "kill"), (3, 1, "start 0"), (6, 1, "wait"), (7, 1, "wait"), (12, 1, "kill")],
            0,
            id="in the place of a dead one, and then the other dies",
        ),
    ],
)
def test_losses_stay_the_same_when_a_rank_joins(
    elastic_ranks: Elastic, undisturbed: Lines, schedule: list[Any], number: int
) -> None:
    said = elastic_ranks(PROGRAM, 2, schedule, {})
    joined = said[number]
    first = next(line["step"] for line in joined if "loss" in line)
    assert first == schedule[-1 if number else -2][0] + 1
    np.testing.assert_allclose(losses(joined), losses(undisturbed)[first:], rtol=1e-6)
    for name, values in undisturbed[-1]["history"].items():
        np.testing.assert_allclose(joined[-1]["history"][name], values, rtol=1e-5, err_msg=name)
    if number:
        assert_same(said[1], undisturbed)


def test_with_too_few_ranks_it_ends_and_goes_on_from_there(
    elastic_ranks: Elastic, undisturbed: Lines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"checkpoint": str(tmp_path)}
    monkeypatch.setenv("EAI_LEAST_RANKS", "2")
    first = elastic_ranks(PROGRAM, 2, [(10, 0, "kill")], settings)[1]
    assert first[-1]["code"] == "too-few-ranks"
    assert len(losses(first)) == 10
    rest = elastic_ranks(PROGRAM, 1, [], settings)[0]
    np.testing.assert_allclose(losses(first) + losses(rest), losses(undisturbed), rtol=1e-6)
