"""What a run is advised: remedies that apply, with gains that the planted losses bear out."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from synthetic import run_record, run_rows

from eai_notebook.advice.advise import MOST, Advice, advise, advise_record, remedy
from eai_notebook.advice.trial_score import score
from eai_notebook.errors import EaiError
from eai_notebook.ledger.context import Context
from eai_notebook.ledger.facts import Facts
from eai_notebook.ledger.merge import merge
from eai_notebook.ledger.report import report_record
from eai_notebook.ledger.trial_outcome import MOST as MOST_TRIALS
from eai_notebook.ledger.trial_outcome import Outcome, noted_trials, notes_of
from eai_notebook.ledger.view_model import record_view

if TYPE_CHECKING:
    from pathlib import Path


def facts(ranks: int = 2, context: Context | None = None, **run: Any) -> Facts:
    return Facts(merge(run_rows(ranks, 200, **run), {}), context or Context())


def words(advice: Advice) -> list[str]:
    return [each.words for each in advice.remedies]


RUNS = {
    "input": facts(input=0.020),
    "own readers": facts(
        input=0.020, context=Context(input={0: {"readers": 2.0, "batches": 9.0, "parse": 1.0}})
    ),
    "transfer": facts(transfer=0.030),
    "link": facts(
        transfer=0.030, context=Context(hosts={0: "a", 1: "b"}, meta={"link_bytes_per_s": 150e6})
    ),
    "update": facts(update=0.010, context=Context(meta={"optimizer": "Adam"})),
    "late": facts(4, late={2: {"input": 0.010}}),
    "two losses": facts(transfer=0.010, update=0.010),
    "nothing": facts(),
}


@pytest.mark.parametrize("name", RUNS)
def test_gains_are_within_their_interval_and_no_more_than_the_loss(name: str) -> None:
    run = RUNS[name]
    found = advise(run)
    for each in found.remedies:
        assert 0 <= each.gain.low <= each.gain.expected <= each.gain.high <= run.step
    losses = {each.loss for each in found.remedies}
    assert all(sum(each.loss == loss for each in found.remedies) <= MOST for loss in losses)
    assert len(set(words(found))) == len(words(found))


def test_a_run_without_a_loss_gets_no_remedy() -> None:
    found = advise(RUNS["nothing"])
    assert not found.remedies
    assert not found.unmodelled
    assert "no loss is worth a remedy" in found.to_text()


def test_twice_the_readers_hide_what_the_step_can_hide() -> None:
    run = RUNS["own readers"]
    (found,) = advise(run).remedies
    assert found.words == "twice the readers: `readers=4` (now 2)"
    assert found.keeps_results
    # 33 ms a batch for two readers are 16 ms for four: 3 ms more than the rest of the step.
    assert found.gain.high == pytest.approx(run.step / 2, rel=0.05)
    assert found.gain.low < found.gain.expected < found.gain.high


def test_fp16_is_offered_only_where_bytes_are_many_and_whole() -> None:
    assert '`wire="fp16"`: half the bytes, other rounding' in words(advise(RUNS["transfer"]))
    narrow = facts(transfer=0.030, context=Context(meta={"wire": "int8"}))
    assert not any("fp16" in each for each in words(advise(narrow)))


def test_a_known_link_narrows_the_interval() -> None:
    def fp16(run: Facts) -> Any:
        (found,) = [each for each in advise(run).remedies if "fp16" in each.words]
        return found.gain

    known, unknown = fp16(RUNS["link"]), fp16(RUNS["transfer"])
    assert unknown.low == 0
    # 4 MB at 150 MB/s are 27 ms, of which fp16 saves a half.
    assert known.low == pytest.approx(0.0133, rel=0.1)
    assert known.high - known.low < (unknown.high - unknown.low) / 2


def test_what_changes_results_says_so() -> None:
    found = advise(RUNS["update"])
    assert words(found)[0] == "SGD in place of Adam: less state to rewrite"
    assert not found.remedies[0].keeps_results
    assert found.to_text().count("changes results") == len(found.remedies)


def test_a_late_rank_is_what_its_remedy_is_for() -> None:
    run = RUNS["late"]
    found = advise(run)
    assert {each.loss for each in found.remedies} == {"`wait_peer` for rank 2"}
    assert found.remedies[0].gain.expected == pytest.approx(0.010, rel=0.15)


def test_a_callback_is_named_with_what_it_takes() -> None:
    rows = run_rows(2, 200, other=0.012)
    for own in rows.values():
        own["callback"] = 0.010
    named = {0: {"callback Slow.on_train_batch_end": 2.0}}
    found = advise(Facts(merge(rows, {}), Context(named=named)))
    assert words(found)[0] == "the work of `Slow.on_train_batch_end` in every 100th batch only"
    assert found.remedies[0].gain.expected == pytest.approx(0.0099, rel=0.02)


def test_a_remedy_of_unknown_effect_has_no_number() -> None:
    found = advise(facts(late={1: {"compute": 0.010}}))
    assert found.remedies == ()
    assert found.unmodelled
    assert "of unknown gain: " in found.to_text()


def test_unequal_batches_gain_what_evens_out() -> None:
    rows = run_rows(2, 200, late={1: {"compute": 0.010}})
    rows[1]["samples"] = 1024
    found = advise(Facts(merge(rows, {})))
    assert words(found) == ["equal batches: rank 1 has 1024 samples, the others 512"]
    # Both ranks then compute 15 ms; rank 1 computes 20 now.
    assert found.remedies[0].gain.expected == pytest.approx(0.005, rel=0.05)


def test_more_steps_narrow_the_interval() -> None:
    def width(steps: int) -> float:
        ledger = merge(run_rows(2, steps, jitter=0.004, update=0.010), {})
        gains = [each.gain for each in advise(Facts(ledger)).remedies]
        return float(np.mean([each.high - each.low for each in gains]))

    assert width(1000) < width(40)


def test_a_record_is_advised_by_the_numbers_of_its_report(tmp_path: Path) -> None:
    found = advise_record(run_record(tmp_path, run_rows(2, 200, transfer=0.030)))
    assert found.verdict.startswith("communication-bound")
    assert found.step == pytest.approx(0.0416, rel=0.05)


def test_what_a_running_training_can_change_is_offered_to_be_tried() -> None:
    found = advise(RUNS["own readers"])
    first = remedy(found, 1).change()
    assert (first["knob"], first["value"]) == ("readers", 4)
    assert first["low"] <= first["expected"] <= first["high"]
    assert "`%eai try 1`" in found.to_text()
    fused = Context(meta={"fused_bytes": 1 << 20})
    settings = [each.setting for each in advise(facts(transfer=0.030, context=fused)).remedies]
    assert ("fused_bytes", 4 << 20) in settings


def test_what_changes_the_program_cannot_be_tried() -> None:
    found = advise(RUNS["update"])
    with pytest.raises(EaiError) as caught:
        remedy(found, 1).change()
    assert caught.value.code == "not-tryable"
    with pytest.raises(EaiError) as caught:
        remedy(found, 9)
    assert caught.value.code == "remedy-unknown"


def test_the_score_counts_the_trials_of_all_runs(tmp_path: Path) -> None:
    assert score(tmp_path).tried == 0
    outcomes = [("kept", 2.0, 2.1), ("put back", 2.0, 0.0), ("kept", 2.0, 4.0)]
    for number, (decision, expected, measured) in enumerate(outcomes):
        record = run_record(tmp_path / str(number), run_rows(1, 6))
        record.note(trial={"decision": decision, "expected_ms": expected, "measured_ms": measured})
        record.path.rename(tmp_path / f"run-{number}")
    assert str(score(tmp_path)) == "of 3 tried, 2 gained; 1 within 10 % of what was expected"


def test_all_trials_of_a_run_are_kept_in_order_and_shown(tmp_path: Path) -> None:
    record = run_record(tmp_path / "one", run_rows(1, 60))
    notes: dict[str, Any] = {}
    for value in range(3, 4 + MOST_TRIALS):
        kept = value % 2 == 0
        outcome = Outcome(
            f"readers={value}", "kept" if kept else "put back", 2.0, 2.1 * kept, -1.0, 3.0, 2, value, 6
        )  # fmt: skip
        notes |= notes_of(notes, asdict(outcome))
    record.note(**notes)
    texts = [line for line in report_record(record).remarks if line.startswith("tried: ")]
    assert len(texts) == MOST_TRIALS
    assert texts[0].startswith("tried: readers=4: ")
    assert texts[-1].startswith(f"tried: readers={3 + MOST_TRIALS}: ")
    view = record_view(record)["trial"]
    assert view.index("readers=4:") < view.index("readers=5:")
    record.path.rename(tmp_path / "run-1")  # where runs are looked for
    assert score(tmp_path).tried == MOST_TRIALS
    # A record of an earlier version has the last one only.
    assert noted_trials({"trial": {"decision": "kept"}}) == [{"decision": "kept"}]
