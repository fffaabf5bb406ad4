from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from synthetic import run_rows

from eai_notebook.ledger.context import Context
from eai_notebook.ledger.facts import Facts
from eai_notebook.ledger.merge import Ledger, mean_parts, merge
from eai_notebook.ledger.run_comparison import compare, compare_facts
from eai_notebook.ledger.run_differences import differences
from eai_notebook.ledger.run_record import RunInfo
from eai_notebook.ledger.step_schema import empty_steps


def ledger(seed: int, ranks: int = 2, steps: int = 150, **run: Any) -> Ledger:
    return merge(run_rows(ranks, steps, seed=seed, **run), {})


@pytest.mark.parametrize("seed", range(20))
def test_the_same_run_twice_is_no_change(seed: int) -> None:
    assert compare(ledger(2 * seed), ledger(2 * seed + 1)).slower is None


@pytest.mark.parametrize("part", ["input", "compute", "transfer", "update", "other"])
@pytest.mark.parametrize("longer", [0.002, 0.010])
def test_a_part_that_became_longer_everywhere_is_named(part: str, longer: float) -> None:
    base: dict[str, Any] = {
        "input": 0.0005,
        "compute": 0.010,
        "transfer": 0.001,
        "update": 0.0008,
        "other": 0.0003,
    }
    found = compare(ledger(1), ledger(2, **{part: base[part] + longer})).slower
    assert found is not None
    assert (found.part, found.rank) == (part, None)
    assert found.change.delta_ms == pytest.approx(1e3 * longer, abs=0.5)
    assert found.change.low_ms <= found.change.delta_ms <= found.change.high_ms


@pytest.mark.parametrize("part", ["input", "compute", "other"])
def test_a_part_that_became_longer_on_one_rank_is_named_with_it(part: str) -> None:
    found = compare(ledger(1, 4), ledger(2, 4, late={2: {part: 0.010}})).slower
    assert found is not None
    assert (found.part, found.rank) == (part, 2)
    assert str(found).endswith("longer on rank 2")


def test_a_faster_run_has_no_cause_of_slowness_and_a_negative_change() -> None:
    found = compare(ledger(1, input=0.010), ledger(2))
    assert found.slower is None
    assert found.parts["input"].high_ms < 0
    assert found.step.is_sure


def test_few_steps_are_not_enough_to_be_sure() -> None:
    assert compare(ledger(1, steps=6), ledger(2, steps=6, input=0.010)).slower is None


def test_a_sure_but_tiny_change_is_not_worth_naming() -> None:
    found = compare(ledger(1, jitter=1e-6), ledger(2, jitter=1e-6, compute=0.0101))
    assert found.step.is_sure
    assert found.slower is None


def test_a_change_within_the_noise_of_a_restless_run_is_not_named() -> None:
    before, after = ledger(7, steps=30, jitter=0.012), ledger(2, steps=30, jitter=0.012)
    found = compare(before, after)
    assert found.step.delta_ms > 1
    assert not found.step.is_sure
    assert found.slower is None


def test_the_rank_that_now_is_last_is_the_cause_not_the_one_that_grew_most() -> None:
    before = ledger(1, late={1: {"compute": 0.008}})
    after = ledger(2, late={0: {"input": 0.007}, 1: {"compute": 0.012}})
    found = compare(before, after).slower
    assert found is not None
    assert (found.part, found.rank) == ("compute", 1)
    assert found.change.delta_ms == pytest.approx(4, abs=0.5)


def test_a_longer_step_whose_parts_trade_places_has_no_sure_cause() -> None:
    def run(longer: float, swing: float) -> Ledger:
        rows = empty_steps(120)
        # Some stretches wait for input and then compute little, others the other way round.
        waits = swing * (rows["step"] // 10 % 2)
        rows["begin"] = np.arange(120.0)
        rows["input"], rows["compute"] = 0.006 + waits, 0.016 + longer - waits
        rows["end"] = rows["begin"] + 0.022 + longer
        return merge({0: rows}, {})

    found = compare(run(0.0, 0.010), run(0.002, 0.010))
    assert found.step.is_sure
    assert found.slower is None


def test_a_run_of_which_only_lengths_are_known_is_compared_by_these() -> None:
    def run(seconds: float, *, measured: bool) -> Ledger:
        rows = empty_steps(120)
        rows["begin"] = np.arange(120.0)
        rows["end"] = rows["begin"] + seconds * np.random.default_rng(0).uniform(0.99, 1.01, 120)
        if measured:
            rows["compute"] = 0.9 * seconds
        return merge({0: rows}, {})

    found = compare(run(0.010, measured=True), run(0.025, measured=False))
    assert found.step.delta_ms == pytest.approx(15, abs=0.2)
    assert found.step.is_sure
    assert found.slower is None
    assert all(np.isnan(change.delta_ms) for change in found.parts.values())


@pytest.mark.parametrize("seed", range(5))
def test_a_change_is_the_difference_of_what_is_shown_of_both(seed: int) -> None:
    before = ledger(seed, 3, jitter=0.006)
    after = ledger(seed + 50, 3, jitter=0.009, late={1: {"input": 0.004}}, transfer=0.004)
    found = compare(before, after)
    for change in (found.step, *found.parts.values()):
        assert change.delta_ms == pytest.approx(change.after_ms - change.before_ms)
        assert change.low_ms <= change.delta_ms <= change.high_ms
    for run, side in ((before, "before_ms"), (after, "after_ms")):
        shown = 1e3 * mean_parts(run.typical(), axis=(0, 1))
        values = [getattr(change, side) for change in found.parts.values()]
        np.testing.assert_allclose(values, shown)
        assert sum(values) == pytest.approx(getattr(found.step, side))
    deltas = [change.delta_ms for change in found.parts.values()]
    assert sum(deltas) == pytest.approx(found.step.delta_ms)


def test_what_differs_between_two_runs_is_listed() -> None:
    versions = {"versions": {"keras": "3.11", "tensorflow": "2.20"}}
    one = RunInfo("a", "fit", 2, 0.0, hosts={0: "a", 1: "a"}, meta={"wire": "fp32", **versions})
    two = RunInfo("b", "fit", 2, 0.0, hosts={0: "a", 1: "b"}, meta={"wire": "fp16", **versions})
    two.meta["versions"] = {"keras": "3.12", "tensorflow": "2.20"}
    found = differences(one, two, (2048.0, 1024.0))
    assert found == [
        "batch 2,048 -> 1,024 a rank",
        "hosts a -> a, b",
        "wire fp32 -> fp16",
        "keras 3.11 -> 3.12",
    ]
    assert differences(one, one, (64.0, 64.0)) == []
    assert differences(one, RunInfo("c", "fit", 2, 0.0)) == []


@pytest.mark.parametrize("part", ["input", "compute", "update", "other"])
def test_what_one_rank_takes_longer_is_found_though_steps_are_hardly_longer(part: str) -> None:
    before = merge(run_rows(2, 80, seed=1, jitter=0.0002), {})
    after = merge(run_rows(2, 80, seed=2, jitter=0.0002, late={1: {part: 0.00035}}), {})
    found = compare(before, after)
    assert found.slower is not None
    assert (found.slower.part, found.slower.rank) == (part, 1)


@pytest.mark.parametrize("seed", range(0, 40, 2))
def test_two_equal_runs_have_no_slower_one(seed: int) -> None:
    one, other = (merge(run_rows(2, 80, seed=each, jitter=0.0003), {}) for each in (seed, seed + 1))
    assert compare(one, other).slower is None


def test_what_only_moved_from_one_part_to_another_is_not_longer() -> None:
    before = merge(run_rows(2, 80, seed=1, jitter=0.0001), {})
    after = merge(run_rows(2, 80, seed=2, jitter=0.0001, compute=0.0104, other=0.0000), {})
    assert compare(before, after).slower is None


def test_what_surely_grew_is_found_beside_parts_that_are_restless() -> None:
    def run(seed: int, update: float) -> Ledger:
        rows = run_rows(2, 80, seed=seed, jitter=0.00005, late={1: {"update": update}})
        chance = np.random.default_rng(seed)
        for own in rows.values():
            late = chance.exponential(0.0015, len(own)) * (chance.random(len(own)) < 0.3)
            own["begin"] -= late + 0.0004 * (seed == 1)
        return merge(rows, {})

    found = compare(run(1, 0.0), run(2, 0.0004)).slower
    assert found is not None
    assert (found.part, found.rank) == ("update", 1)


def test_a_small_callback_is_found_by_its_name() -> None:
    def run(seed: int, late: dict[int, float]) -> Facts:
        chance = np.random.default_rng(seed)
        rows = run_rows(2, 80, seed=seed, jitter=0.0001, other=0.003)
        for rank, own in rows.items():
            own["end"] += chance.normal(0, 0.001, len(own)) + late.get(rank, 0.0)
            own["callback"] = late.get(rank, 0.0)
        named = {rank: {"callback Slow.on_train_batch_end": 80 * s} for rank, s in late.items()}
        return Facts(merge(rows, {}), Context(named=named))

    calm = run(1, {})
    found = compare_facts(calm, run(2, {1: 0.0003})).slower
    assert str(found) == "the callback `Slow.on_train_batch_end` is 0.30 ms a step longer on rank 1"
    found = compare_facts(calm, run(2, {0: 0.0003, 1: 0.0003})).slower
    assert found is not None
    assert found.rank is None
    assert compare_facts(calm, run(2, {})).slower is None
