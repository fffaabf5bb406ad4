"""Waiting is decomposed: all of its numbers are mean seconds a step, and add up."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest
from synthetic import run_rows

from eai_notebook.ledger.merge import Ledger, merge
from eai_notebook.ledger.parts import INPUT, OTHER, OWN, UPDATE
from eai_notebook.ledger.verdict import verdict
from eai_notebook.ledger.waiting import Waiting


def waiting_of(ledger: Ledger) -> Waiting:
    found = Waiting.of(ledger.measured())
    assert found is not None
    return found


def delayed(
    ranks: int,
    steps: int,
    delays: dict[tuple[int, int], float],
    *,
    part: Literal["input", "update"] = "input",
    **run: Any,
) -> Ledger:
    """Return a run in which a part of a rank takes longer in some steps: ``{(rank, step): s}``."""
    rows = run_rows(ranks, steps, compile_step=False, **run)
    shift = np.zeros(ranks)
    for step in range(steps):
        begin = shift.copy()
        for rank, own in rows.items():
            longer = delays.get((rank, step), 0.0)
            own["begin"][step] += begin[rank]
            own[part][step] += longer
            if part == "input":
                own["ready"][step] += longer
            own["ready"][step] += begin[rank]
        late = max(float(own["ready"][step]) for own in rows.values()) + 0.001
        for rank, own in rows.items():
            tail = own["end"][step] - own["reduced"][step]
            if part == "update":
                tail += delays.get((rank, step), 0.0)
            shift[rank] = late + tail - own["end"][step]
            own["reduced"][step], own["end"][step] = late, late + tail
    return merge(rows, {})


@pytest.mark.parametrize("ranks", [2, 3, 8])
@pytest.mark.parametrize("jitter", [0.0003, 0.004])
@pytest.mark.parametrize("part", ["input", "compute", "update", "other"])
def test_the_numbers_of_a_verdict_add_up(ranks: int, jitter: float, part: str) -> None:
    ledger = merge(run_rows(ranks, 120, jitter=jitter, late={1: {part: 0.012}}), {})
    waiting = waiting_of(ledger)
    assert waiting.caused.sum() == pytest.approx(waiting.total)
    per_rank = waiting.sources.sum(axis=1) + waiting.unexplained
    np.testing.assert_allclose(per_rank, waiting.caused, atol=1e-12)
    numbers = verdict(ledger).numbers
    explained = sum(numbers[name] for name in ("input", "compute", "update", "other"))
    assert explained + numbers["unexplained"] == pytest.approx(numbers["waiting"])
    assert numbers["waiting"] < numbers["step"]


def test_few_stalls_and_many_small_waits_are_distinguished() -> None:
    # Rank 1 is last in most steps, by a hair; rank 0 causes the waiting, in three of them.
    delays = {(1, step): 0.0002 for step in range(47)}
    delays |= {(0, step): 0.004 for step in (9, 22, 40)}
    waiting = waiting_of(delayed(2, 47, delays, jitter=0.0))
    assert waiting.culprit is None or waiting.culprit == 0
    assert waiting.in_steps[0] == 3
    assert waiting.caused[0] > waiting.caused[1] * 0.9


def test_the_one_who_causes_most_waiting_is_named_and_shown_by_the_same_measure() -> None:
    delays = {(1, step): 0.0002 for step in range(40)}
    delays |= {(0, step): 0.012 for step in range(0, 40, 4)}
    found = verdict(delayed(2, 40, delays, jitter=0.0))
    assert (found.kind, found.rank, found.cause) == ("wait_peer", 0, "input")
    (who,) = [line for line in found.evidence if "causes" in line]
    assert "waiting rank 0 causes 9" in who
    assert "in 10 of 40 steps" in who


def test_a_part_that_explains_less_than_half_is_not_called_the_cause() -> None:
    rows = run_rows(2, 80, jitter=0.0, compile_step=False)
    # Rank 1 is 10 ms late after every exchange, and nothing that it does is longer but a bit.
    for own, late in ((rows[1], 0.010),):
        own["ready"] += late
        own["reduced"] += late
        own["end"] += late
        own["begin"] += late
        own["input"] += 0.0001
    rows[0]["reduced"] += 0.010
    rows[0]["end"] += 0.010
    found = verdict(merge(rows, {}))
    assert (found.kind, found.rank, found.cause) == ("wait_peer", 1, None)
    assert "no one part explains half" in found.sentence
    assert found.numbers["unexplained"] > found.numbers["waiting"] / 2


def test_what_a_rank_does_after_the_exchange_makes_it_late_in_the_next_step() -> None:
    rows = run_rows(2, 60, jitter=0.0, compile_step=False)
    once = delayed(2, 60, {}, jitter=0.0)
    assert waiting_of(once).total == pytest.approx(0.0, abs=1e-9)
    late = merge(run_rows(2, 60, jitter=0.0, late={0: {"update": 0.006}}), {})
    waiting = waiting_of(late)
    assert waiting.culprit == 0
    assert waiting.cause() == UPDATE
    # The first of them had nobody to wait for before it.
    assert waiting.sources[0, OWN.index(UPDATE)] == pytest.approx(0.006, rel=0.05)
    assert len(rows) == 2


def test_sampled_steps_are_explained_without_the_step_before_them() -> None:
    rows = run_rows(2, 400, late={1: {"update": 0.006}}, compile_step=False)
    for own in rows.values():
        skipped = own["step"] % 8 != 0
        for name in ("input", "compute", "ready", "reduced", "update"):
            own[name][skipped] = np.nan
    found = verdict(merge(rows, {}))
    assert (found.kind, found.rank, found.cause) == ("wait_peer", 1, "update")


@pytest.mark.parametrize("part", ["input", "other"])
def test_other_and_input_of_a_late_rank_are_kept_apart(part: str) -> None:
    waiting = waiting_of(merge(run_rows(4, 90, late={2: {part: 0.020}}), {}))
    assert waiting.cause() == {"input": INPUT, "other": OTHER}[part]
