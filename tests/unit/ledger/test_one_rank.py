from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from synthetic import run_record, run_rows

from eai_notebook.display.static_html import html
from eai_notebook.ledger.report import report_record
from eai_notebook.ledger.run_record import RunRecord, list_runs
from eai_notebook.ledger.view_model import record_view
from eai_notebook.session.run_recorder import RunRecorder, outcome_of
from eai_notebook.telemetry.messages import RunBegan, RunEnded, StepsDone

if TYPE_CHECKING:
    from pathlib import Path

META = {"model": "wide_deep", "parameters": 1000, "optimizer": "adam"}


def trained(folder: Path, size: int, meta: dict[str, Any]) -> dict[str, Any]:
    """Record a run of `size` ranks and return its last view."""
    keeper = RunRecorder(folder)
    rows = run_rows(size, 100)
    for rank in rows:
        keeper.take(RunBegan(f"run-of-{size}", rank, size, "fit", "here", 1, meta=meta))
    for rank, own in rows.items():
        keeper.take(StepsDone(f"run-of-{size}", rank, own))
    for rank in rows:
        keeper.take(RunEnded(f"run-of-{size}", rank, "done", 0.0))
    (view, _), *_ = keeper.views_due(ended=True)
    return view


@pytest.mark.parametrize(("other", "is_known"), [({}, True), ({"parameters": 2000}, False)])
def test_a_run_is_compared_with_one_rank_of_the_same_model(
    tmp_path: Path, other: dict[str, Any], is_known: bool
) -> None:
    alone = trained(tmp_path, 1, META | other)
    together = trained(tmp_path, 4, META)
    assert alone["rates"]["one_rank"] is None
    found = together["rates"]["one_rank"]
    if not is_known:
        assert found is None
        return
    expected = together["rates"]["samples_per_s"] / alone["rates"]["samples_per_s"]
    assert found["times"] == pytest.approx(expected, rel=1e-6)
    assert found["ideal_pct"] == pytest.approx(25 * expected, rel=1e-6)
    words = f"{expected:.3g}x one rank"
    assert words in html(together)
    record = RunRecord(next(path for path in list_runs(tmp_path) if path.name.endswith("of-4")))
    assert words in report_record(record).to_text()


def test_a_one_rank_entry_of_somebody_elses_record_says_nothing(tmp_path: Path) -> None:
    record = run_record(tmp_path, run_rows(2, 40))
    for damaged in ("<script>", {"samples_per_s": "<script>"}, {"samples_per_s": 0.0}):
        record.note(one_rank=damaged)
        assert record_view(RunRecord(record.path))["rates"]["one_rank"] is None


def test_the_throughput_over_the_steps_is_that_of_all_ranks(tmp_path: Path) -> None:
    view = record_view(run_record(tmp_path, run_rows(4, 200)))
    rates = [rate for rate in view["buckets"]["samples_per_s"][5:] if rate is not None]
    assert sum(rates) / len(rates) == pytest.approx(view["rates"]["samples_per_s"], rel=0.05)
    assert outcome_of(view)["samples_per_s"] == view["rates"]["samples_per_s"]
