"""One number for one thing: legend, headline, table, comparison, page and text agree."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic import run_record, run_rows

from eai_notebook.display.html_page import page
from eai_notebook.display.plain_text import text
from eai_notebook.display.run_browser import compared
from eai_notebook.display.static_html import html
from eai_notebook.ledger.followed_run import read_run
from eai_notebook.ledger.formatting import ms
from eai_notebook.ledger.parts import PARTS
from eai_notebook.ledger.report import report_record
from eai_notebook.ledger.steady_verdict import PATIENCE, SteadyVerdict
from eai_notebook.ledger.view_model import LiveView, record_view

if TYPE_CHECKING:
    from eai_notebook.ledger.run_record import RunRecord

runs = st.fixed_dictionaries(
    {
        "ranks": st.integers(1, 4),
        "steps": st.sampled_from([6, 40, 120, 2300]),
        "seed": st.integers(0, 99),
        "late": st.sampled_from(["", "input", "compute", "update", "other"]),
        "stalls": st.booleans(),
        "unmeasured": st.booleans(),
        "without": st.sampled_from(["", "update", "input"]),
    }
)


def record_of(folder: Path, drawn: dict[str, object]) -> RunRecord:
    """Return a record with what was drawn in it."""
    ranks, steps = int(str(drawn["ranks"])), int(str(drawn["steps"]))
    late = {ranks - 1: {str(drawn["late"]): 0.006}} if drawn["late"] else {}
    rows = run_rows(ranks, steps, seed=int(str(drawn["seed"])), jitter=0.001, late=late)
    for rank, own in rows.items():
        if drawn["stalls"]:
            longer = np.where(own["step"] % 19 == 7, 0.150, 0.0)
            for stamp in ("ready", "reduced", "end"):
                own[stamp] += longer
            own["compute"] += longer
        if drawn["unmeasured"]:
            for part in ("input", "compute", "ready", "reduced", "update"):
                own[part][own["step"] % 3 == 1] = np.nan
        if drawn["without"] and rank == 0:  # never measured there: its time is in `other`
            own[str(drawn["without"])] = np.nan
    return run_record(folder, rows)


@settings(max_examples=40, deadline=None)
@given(runs)
def test_every_display_has_the_same_numbers(drawn: dict[str, object]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        record = record_of(Path(folder), drawn)
        view, report = record_view(record), report_record(record)
        step = view["rates"]["step_ms"]
        assert sum(length or 0.0 for length in view["means_ms"]) == pytest.approx(step, rel=2e-3)
        assert 1e3 * report.rates.step == pytest.approx(step, rel=1e-3)
        for shown, numbers in zip(view["means_ms"], report.parts, strict=True):
            if shown is None:
                assert np.isnan(numbers.mean)
            else:
                assert 1e3 * numbers.mean == pytest.approx(shown, rel=1e-3, abs=1e-9)
        by_rank = [sum(length or 0.0 for length in rank["ms"]) for rank in view["ranks"]]
        assert np.mean(by_rank) == pytest.approx(step, rel=1e-3)
        verdict = report.verdict
        assert verdict.sentence == view["verdict"]["sentence"]
        if verdict.numbers:
            assert verdict.numbers["step"] == pytest.approx(step, rel=1e-3)
        if "waiting" in verdict.numbers:
            assert verdict.numbers["waiting"] <= view["waiting_ms"] * 1.001
        length = ms(report.rates.step)
        assert f"{length} a step" in html(view)
        assert f"{length} a step" in text(view)
        assert f"step {length}" in page(record)
        # What a text calls a step is that one; the mean with stalls in it has no such name.
        assert "mean step" not in report.to_text()
        for said in re.findall(r"of a ([\d.]+ ms) step", report.to_text()):
            assert said == length


def test_a_comparison_shows_the_numbers_of_both_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EAI_RUNS", str(tmp_path))
    base = {"ranks": 2, "seed": 1, "late": "", "unmeasured": True, "without": ""}
    one = record_of(tmp_path, base | {"steps": 2300, "stalls": False})
    two = record_of(tmp_path, base | {"steps": 120, "stalls": True})
    found = compared(one.path.name, two.path.name)
    for side, record in (("before", one), ("after", two)):
        view = record_view(record)
        assert found[side]["means_ms"] == view["means_ms"]
        assert found["step"][f"{side}_ms"] == pytest.approx(view["rates"]["step_ms"], rel=1e-3)
        for change, length in zip(found["parts"], view["means_ms"], strict=True):
            assert change[f"{side}_ms"] == pytest.approx(length, rel=1e-3)
    assert found["step"]["delta_ms"] == pytest.approx(
        found["step"]["after_ms"] - found["step"]["before_ms"]
    )
    assert any(each.startswith("stalls none -> ") for each in found["differs"])


def test_the_live_view_ends_on_the_numbers_of_the_record(tmp_path: Path) -> None:
    base = {"ranks": 2, "seed": 3, "late": "compute", "unmeasured": False, "without": ""}
    record = record_of(tmp_path, base | {"steps": 2300, "stalls": True})
    live = LiveView(record)
    assert live.look() == record_view(record)


def shown(folder: Path, lengths: list[tuple[float, float]]) -> list[str]:
    """Return the kind of the verdict at each look, for lengths of transfer and update in s."""
    steady, kinds = SteadyVerdict(), []
    for look, (transfer, update) in enumerate(lengths):
        rows = run_rows(2, 60, jitter=0.0, compile_step=False, transfer=transfer, update=update)
        kinds.append(steady.of(read_run(run_record(folder / str(look), rows)).facts()).kind)
    return kinds


def test_two_causes_that_cost_the_same_do_not_take_turns(tmp_path: Path) -> None:
    kinds = shown(tmp_path, [(0.0060, 0.0058), (0.0058, 0.0060)] * 5)
    assert set(kinds) == {"transfer"}


def test_a_loss_at_the_limit_does_not_come_and_go(tmp_path: Path) -> None:
    # Of a step of about 13 ms 15 % is 1.9 ms.
    kinds = shown(tmp_path, [(0.0024, 0.0), (0.0018, 0.0), (0.0020, 0.0), (0.0018, 0.0)])
    assert kinds == ["transfer"] * 4


def test_a_cause_that_clearly_costs_more_is_shown_after_some_looks(tmp_path: Path) -> None:
    kinds = shown(tmp_path, [(0.006, 0.003)] + [(0.004, 0.009)] * (PATIENCE + 1))
    assert kinds == ["transfer"] * PATIENCE + ["update"] * 2
    kinds = shown(tmp_path / "gone", [(0.006, 0.0)] + [(0.0001, 0.0)] * (PATIENCE + 1))
    assert kinds == ["transfer"] * PATIENCE + ["compute"] * 2


def test_parts_of_the_table_are_those_of_the_view(tmp_path: Path) -> None:
    assert record_view(run_record(tmp_path, run_rows(1, 6)))["parts"] == list(PARTS)
