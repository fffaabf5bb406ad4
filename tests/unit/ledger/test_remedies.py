"""What a verdict says to try applies to the run at hand; causes outside of the step are named."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from synthetic import run_rows

from eai_notebook.ledger.context import Context
from eai_notebook.ledger.merge import Ledger, merge
from eai_notebook.ledger.verdict import Verdict, verdict


def ledger(ranks: int = 2, **run: Any) -> Ledger:
    return merge(run_rows(ranks, 100, **run), {})


@pytest.mark.parametrize("part", ["input", "transfer", "update", "other"])
def test_every_loss_has_at_most_three_remedies_and_a_gain(part: str) -> None:
    found = verdict(ledger(2, **{part: 0.030}))
    assert 1 <= len(found.tries) <= 3
    assert found.advice.startswith("Try: ")
    assert "without it: " in found.gain
    assert found.gain.endswith("x")


def test_a_run_that_computes_has_nothing_to_try() -> None:
    assert verdict(ledger()).advice == ""


def test_a_format_that_is_in_use_is_not_offered() -> None:
    fp32 = verdict(ledger(transfer=0.030), context=Context(meta={"wire": "fp32"}))
    assert any("fp16" in each for each in fp32.tries)
    fp16 = verdict(ledger(transfer=0.030), context=Context(meta={"wire": "fp16"}))
    assert not any("fp16" in each for each in fp16.tries)
    assert any("now 512 samples" in each for each in fp16.tries)


def test_readers_are_offered_where_they_are_ours() -> None:
    waited = {0: {"fetch": 9.0, "batches": 9.0, "readers": 4.0}}
    assert "readers=8" in verdict(ledger(input=0.030), waited).advice
    assert "readers" not in verdict(ledger(input=0.030)).advice


def callback_rows(late: dict[int, float]) -> Ledger:
    rows = run_rows(2, 100, jitter=0.0, late={r: {"other": s} for r, s in late.items()})
    for rank, seconds in late.items():
        rows[rank]["callback"] = seconds
    return merge(rows, {})


def test_a_callback_is_named_by_class_and_hook() -> None:
    named = {0: {"callback Slow.on_train_batch_end": 2.0, "callback Quick.on_train_batch_end": 0.1}}
    everywhere = verdict(
        callback_rows({0: 0.020, 1: 0.020}), context=Context(named=named | {1: named[0]})
    )
    assert everywhere.kind == "other"
    assert "`Slow.on_train_batch_end`" in everywhere.sentence
    late = verdict(callback_rows({0: 0.020}), context=Context(named=named))
    assert (late.kind, late.rank, late.cause) == ("wait_peer", 0, "other")
    assert "the callback `Slow.on_train_batch_end`" in late.sentence
    assert "`Slow.on_train_batch_end`" in late.advice


def beside(late: dict[int, float], other: float = 0.002) -> Verdict:
    """Return the verdict on 12 ms steps of which `other` is 2 ms anyway, with a callback on some ranks."""
    rows = run_rows(
        2, 80, jitter=0.0002, other=other, compute=0.0086, input=0.0005, transfer=0.0005,
        update=0.0002, late={rank: {"other": s} for rank, s in late.items()}, compile_step=False,
    )  # fmt: skip
    for rank, seconds in late.items():
        rows[rank]["callback"] = seconds
    named = {rank: {"callback Slow.on_train_batch_end": 80 * late.get(rank, 0.0)} for rank in rows}
    return verdict(merge(rows, {}), context=Context(named=named))


def test_what_any_step_spends_outside_of_the_graph_is_no_loss() -> None:
    assert beside({}).kind == "compute"
    assert beside({}, other=0.0026).kind == "compute"
    found = beside({}, other=0.0052)
    assert found.kind == "other"
    assert "no name" in found.sentence


def test_a_callback_of_one_rank_is_found_beside_what_all_spend_outside_of_the_graph() -> None:
    found = beside({0: 0.0036})
    assert (found.kind, found.rank, found.cause) == ("wait_peer", 0, "other")
    assert "the callback `Slow.on_train_batch_end`" in found.sentence


def test_a_callback_of_all_ranks_is_said_to_take_what_it_takes() -> None:
    found = beside({0: 0.0036, 1: 0.0036})
    assert found.kind == "other"
    assert found.share == pytest.approx(3.6 / found.numbers["step"], rel=0.02)
    assert "of it the callback `Slow.on_train_batch_end`" in found.evidence[0]
    assert found.numbers["other"] == pytest.approx(5.6, rel=0.05)


def test_ranks_whose_cores_others_have_are_not_communication_bound() -> None:
    use = {"ran": 0.7, "waited": 9.3, "machine": 20.0, "wall": 10.0, "cores": 2.0}
    context = Context(hosts={0: "a", 1: "a"}, cores={0: use, 1: use})
    found = verdict(ledger(transfer=0.030), context=context)
    assert found.kind == "cores"
    assert "ranks get 7 % of the processor time" in found.sentence
    # Two ranks whose own threads wait for each other: nobody has taken anything.
    alone = {**use, "machine": 1.5}
    calm = verdict(ledger(), context=Context(hosts={0: "a", 1: "a"}, cores={0: alone, 1: alone}))
    assert calm.kind == "compute"


def test_a_part_that_rules_the_step_is_not_hidden_by_a_lack_of_cores() -> None:
    use = {"ran": 2.5, "waited": 7.5, "machine": 20.0, "wall": 10.0, "cores": 2.0}
    context = Context(hosts={0: "a", 1: "a"}, cores={0: use, 1: use})
    assert verdict(ledger(update=0.040), context=context).kind == "update"


def test_a_late_rank_that_lacks_cores_is_reported_with_its_share() -> None:
    use = {"ran": 5.0, "waited": 5.0, "machine": 20.0, "wall": 10.0, "cores": 2.0}
    context = Context(hosts={0: "a", 1: "b"}, cores={1: {**use, "machine": 6.0}})
    found = verdict(ledger(late={1: {"compute": 0.02}}), context=context)
    assert any("rank 1 got 50 % of the processor time" in line for line in found.evidence)


def test_unequal_batches_are_reported_as_the_remedy() -> None:
    rows = run_rows(2, 100, late={1: {"compute": 0.02}})
    rows[1]["samples"] = 2048
    found = verdict(merge(rows, {}))
    assert "rank 1 has 2,048 samples, the others 512" in found.advice


def test_what_was_not_measured_is_said_with_what_would_be_needed() -> None:
    rows = run_rows(1, 40)[0]
    for name in ("input", "compute", "ready", "reduced", "update"):
        rows[name] = np.nan
    found = verdict(merge({0: rows}, {}))
    assert found.kind == "unknown"
    assert "eai.step" in found.advice
