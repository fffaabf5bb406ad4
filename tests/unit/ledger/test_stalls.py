"""Few steps that hold much of the time are a kind of their own."""

from __future__ import annotations

import numpy as np
import pytest
from synthetic import run_rows
from unit.ledger.test_waiting import delayed

from eai_notebook.ledger.context import Context
from eai_notebook.ledger.merge import merge
from eai_notebook.ledger.verdict import findings, verdict


@pytest.mark.parametrize("ranks", [2, 4])
def test_a_stall_of_one_rank_in_a_few_steps_is_reported_with_rank_and_part(ranks: int) -> None:
    delays = {(1, step): 0.300 for step in range(7, 160, 20)}
    found = verdict(delayed(ranks, 160, delays))
    assert (found.kind, found.rank, found.cause) == ("stalls", 1, "input")
    assert "8 of 160 steps" in found.sentence
    assert found.numbers["stalls"] == pytest.approx(300 * 8 / 160, rel=0.1)
    assert "steps 7, 27, 47" in " ".join(found.evidence)


@pytest.mark.parametrize("ranks", [2, 4])
def test_what_a_stall_after_the_exchange_costs_in_the_next_step_is_the_stalls(ranks: int) -> None:
    delays = {(1, step): 0.300 for step in range(7, 160, 20)}
    ledger = delayed(ranks, 160, delays, part="update")
    found = verdict(ledger)
    assert (found.kind, found.rank, found.cause) == ("stalls", 1, "update")
    assert "8 of 160 steps take 300 ms longer" in found.sentence
    assert found.numbers["stalls"] == pytest.approx(300 * 8 / 160, rel=0.02)
    # The other ranks' waiting in the steps after them is no loss of the usual ones.
    assert [each.kind for each in findings(ledger)] == ["stalls"]
    assert ledger.typical().wall.max() < 0.02


def test_a_stall_of_all_ranks_blames_none() -> None:
    delays = {(rank, step): 0.300 for step in range(7, 160, 20) for rank in range(2)}
    found = verdict(delayed(2, 160, delays))
    assert (found.kind, found.rank, found.cause) == ("stalls", None, "input")


def test_the_usual_steps_are_judged_without_the_stalls() -> None:
    delays = {(1, step): 0.200 for step in range(7, 160, 20)}
    kinds = [each.kind for each in findings(delayed(2, 160, delays, input=0.010))]
    assert sorted(kinds) == ["input", "stalls"]


def test_making_an_iterator_for_each_epoch_is_called_that() -> None:
    rows = run_rows(1, 120, compile_step=False)
    first = np.arange(120) % 15 == 0
    own = rows[0]
    shift = np.cumsum(np.where(first, 0.05, 0.0))
    own["begin"] += shift - np.where(first, 0.05, 0.0)
    for stamp in ("end", "ready", "reduced"):
        own[stamp] += shift
    own["iterator"] = np.where(first, 0.05, np.nan)
    found = verdict(merge(rows, {}), context=Context())
    assert found.kind == "stalls"
    assert "making an iterator over the data" in found.sentence
    assert "repeat()" in found.advice


def test_two_long_steps_are_no_stalls() -> None:
    delays = {(0, 20): 1.0, (0, 90): 1.0}
    assert verdict(delayed(2, 160, delays)).kind == "compute"


@pytest.mark.parametrize("seed", range(10))
def test_a_calm_run_has_no_stalls(seed: int) -> None:
    assert verdict(merge(run_rows(2, 200, seed=seed, jitter=0.001), {})).kind == "compute"


def test_long_stalls_stand_out_of_a_restless_run() -> None:
    delays = {(0, step): 0.900 for step in range(7, 64, 9)}
    delays |= {(1, step): 0.020 for step in range(0, 64, 4)}
    found = verdict(delayed(2, 64, delays))
    assert (found.kind, found.rank, found.cause) == ("stalls", 0, "input")
    assert "7 of 64 steps" in found.sentence


def test_the_warm_up_of_a_run_is_no_stall() -> None:
    delays = {(0, step): 0.060 for step in (1, 2, 3, 4, 6)}
    assert verdict(delayed(2, 60, delays)).kind == "compute"
