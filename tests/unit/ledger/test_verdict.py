from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from synthetic import run_rows

from eai_notebook.ledger.context import Context
from eai_notebook.ledger.merge import Ledger, merge
from eai_notebook.ledger.verdict import findings, verdict


def ledger(ranks: int = 4, steps: int = 200, **run: Any) -> Ledger:
    return merge(run_rows(ranks, steps, **run), {})


@pytest.mark.parametrize("ranks", [1, 2, 4, 64])
def test_healthy_steps_compute(ranks: int) -> None:
    found = verdict(ledger(ranks, 60))
    assert found.kind == "compute"
    assert found.sentence.startswith("compute-bound: ")


def test_input_on_all_ranks_is_input_bound() -> None:
    found = verdict(ledger(input=0.020))
    assert (found.kind, found.rank) == ("input", None)
    assert found.sentence == "input-bound: 61 % of each step waits for the next batch"


def test_the_stage_that_input_waits_for_is_named() -> None:
    waited = {
        0: {"fetch": 3.0, "parse": 1.0, "shuffle": 0.0, "hand_over": 0.0, "batches": 9.0},
        1: {"fetch": 1.0, "parse": 2.5, "hand_over": 0.5, "batches": 9.0},
    }
    found = verdict(ledger(input=0.020), waited)
    assert found.sentence == (
        "input-bound: 61 % of each step waits for the next batch, "
        "fetch-bound: storage is 50 % of that"
    )
    late = verdict(ledger(late={1: {"input": 0.010}}), waited)
    assert late.sentence.endswith(", parse-bound: parsing is 62 % of that")
    nothing: list[dict[int, dict[str, float]]] = [{}, {0: {}}, {0: {"batches": 9.0, "fetch": 0.0}}]
    for other in nothing:
        assert verdict(ledger(input=0.020), other).sentence.endswith("waits for the next batch")
    assert "of that" not in verdict(ledger(update=0.005), waited).sentence


def test_a_part_that_costs_less_than_half_is_said_to_cost_most() -> None:
    found = verdict(ledger(update=0.005))
    assert found.kind == "update"
    assert found.sentence.startswith("`update` is the largest loss: ")


def test_a_rank_is_named_only_where_most_of_what_it_loses_is_its_own() -> None:
    mostly = verdict(ledger(update=0.020, late={1: {"update": 0.024}}))
    assert (mostly.kind, mostly.rank) == ("update", 1)
    assert "(rank 1 worst, " in mostly.sentence
    chance = verdict(ledger(update=0.020, late={1: {"update": 0.003}}))
    assert (chance.kind, chance.rank) == ("update", None)
    assert "worst" not in chance.sentence


@pytest.mark.parametrize("part", ["input", "compute", "update", "other"])
@pytest.mark.parametrize(("ranks", "late"), [(2, 0), (4, 1), (8, 7)])
def test_a_late_rank_is_named_with_what_is_longer_in_its_step(
    part: str, ranks: int, late: int
) -> None:
    found = verdict(ledger(ranks, late={late: {part: 0.010}}))
    assert (found.kind, found.rank, found.cause) == ("wait_peer", late, part)
    assert found.sentence.startswith(f"rank {late} is the slow one: its `{part}` is ")


def test_the_sentence_about_a_late_rank() -> None:
    found = verdict(ledger(jitter=0.0, late={1: {"other": 0.010}}))
    assert found.sentence == (
        "rank 1 is the slow one: its `other` is 10.0 ms longer than the others', "
        "so ranks 0, 2-3 idle 10.0 ms of 22.6 ms (44 %)"
    )
    assert found.gain == "without it: 22.6 ms -> 12.6 ms, 1.79x"


def test_ranks_that_take_turns_in_being_late_are_not_blamed() -> None:
    found = verdict(ledger(jitter=0.005))
    assert (found.kind, found.rank) == ("wait_peer", None)


def test_exposed_communication_is_communication_bound() -> None:
    found = verdict(ledger(transfer=0.030))
    assert found.kind == "transfer"
    assert found.sentence.startswith("communication-bound: ")
    assert "4 MB of gradients a step on each rank" in found.evidence


def test_an_input_that_stalls_every_fourth_step_is_seen() -> None:
    rows = run_rows(1, 200, compile_step=False)
    own = rows[0]
    late = np.where(own["step"] % 4 == 0, 0.040, 0.0)
    shift = np.cumsum(late)
    own["input"] += late
    own["begin"] += shift - late
    for stamp in ("end", "ready", "reduced"):
        own[stamp] += shift
    assert verdict(merge(rows, {})).kind == "input"


def test_too_few_steps_give_no_verdict() -> None:
    found = verdict(ledger(steps=4))
    assert (found.kind, found.sentence) == (
        "unknown",
        "no verdict: 3 measured steps, 5 are needed",
    )
    assert findings(ledger(steps=4)) == []


def test_a_rule_abstains_where_its_part_was_not_measured() -> None:
    rows = run_rows(2, 50, input=0.020)
    for own in rows.values():
        own["input"] = np.nan
    # Its time is nowhere else to be found, so it shows as `other`.
    assert [finding.kind for finding in findings(merge(rows, {}))] == ["other"]


def test_without_compute_there_is_no_good_verdict() -> None:
    rows = run_rows(1, 50, input=0.001, compute=0.0001, other=0.00001)
    rows[0]["compute"] = np.nan
    rows[0]["update"] = np.nan
    rows[0]["input"] = (rows[0]["end"] - rows[0]["begin"]) * 0.1
    rows[0]["reduced"] = rows[0]["ready"] = np.nan
    assert verdict(merge(rows, {})).kind == "other"


def test_findings_come_costliest_first() -> None:
    found = findings(ledger(input=0.010, transfer=0.020))
    assert [finding.kind for finding in found] == ["transfer", "input"]


def test_one_step_in_a_hundred_does_not_change_the_verdict() -> None:
    rows = run_rows(2, 200)
    for own in rows.values():
        own["end"][100] += 30.0
        for stamp in ("begin", "end", "ready", "reduced"):
            own[stamp][101:] += 30.0
    assert verdict(merge(rows, {})).kind == "compute"


@pytest.mark.parametrize(
    ("link", "said"),
    [
        (150e6, "moves gradients over a link between hosts that is full, 150 MB/s"),
        (12.5e9, "moves gradients at 1 % of what the link carried at the start"),
        (400e6, "moves gradients, after the last rank was ready"),
        (None, "moves gradients, after the last rank was ready"),
    ],
)
def test_a_link_that_is_slow_is_named(link: float | None, said: str) -> None:
    context = Context(hosts={0: "a", 1: "b"}, meta={"link_bytes_per_s": link})
    found = verdict(ledger(2, transfer=0.030), context=context)
    assert found.kind == "transfer"
    assert said in found.sentence
    assert any("when the group started" in line for line in found.evidence) == (link is not None)


def test_ranks_on_one_host_have_no_link() -> None:
    context = Context(hosts={0: "a", 1: "a"}, meta={"link_bytes_per_s": 150e6})
    assert "link" not in verdict(ledger(2, transfer=0.030), context=context).sentence


def test_a_rank_that_runs_more_virtual_ranks_is_slow_for_that() -> None:
    elastic = Context(meta={"virtual_ranks": 4})
    found = verdict(ledger(3, late={2: {"compute": 0.012}}), context=elastic)
    assert (found.kind, found.rank) == ("wait_peer", 2)
    assert "rank 2 runs 2 of the 4 virtual ranks, the others 1" in found.evidence
    assert "%eai grow" in found.tries[0]
    other = verdict(ledger(3, late={0: {"compute": 0.012}}), context=elastic)
    assert other.rank == 0
    assert "%eai grow" not in "".join(other.tries)


def test_what_elastic_training_refuses_is_no_remedy_there() -> None:
    plain = verdict(ledger(2, transfer=0.030), context=Context())
    elastic = verdict(ledger(2, transfer=0.030), context=Context(meta={"virtual_ranks": 4}))
    assert "gradient_accumulation_steps" in "".join(plain.tries)
    assert elastic.tries
    assert "gradient_accumulation_steps" not in "".join(elastic.tries)
