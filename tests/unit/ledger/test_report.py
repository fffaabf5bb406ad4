from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from synthetic import run_record, run_rows

from eai_notebook.ledger.merge import merge
from eai_notebook.ledger.report import report, report_record

if TYPE_CHECKING:
    from pathlib import Path


def test_the_shares_of_a_fully_measured_run_add_up() -> None:
    found = report(merge(run_rows(3, 120), {}))
    assert sum(part.share for part in found.parts) == pytest.approx(1)


def test_the_numbers_are_those_of_the_rows() -> None:
    rows = run_rows(2, 100, jitter=0.0, compile_step=False, late={1: {"input": 0.004}})
    found = report(merge(rows, {}))
    by_name = {part.part: part for part in found.parts}
    assert by_name["compute"].median == pytest.approx(0.010)
    assert by_name["input"].worst_rank == 1
    assert by_name["input"].worst_mean == pytest.approx(0.0045)
    # 0.3 other + 4.5 input + 10 compute + 1 transfer + 0.8 update
    step = 0.0166
    assert found.rates.step == pytest.approx(step, rel=1e-3)
    assert found.rates.samples_per_s == pytest.approx(2 * 512 / step, rel=1e-3)


def test_bus_bandwidth_is_that_of_nccl() -> None:
    found = report(merge(run_rows(4, 100, jitter=0.0, compile_step=False), {}))
    # 4 MB that left the rank, in 1 ms exposed + 2 ms hidden
    assert found.rates.bus_bandwidth == pytest.approx(4e6 / 0.003, rel=1e-3)


def test_one_rank_has_no_bus() -> None:
    assert np.isnan(report(merge(run_rows(1, 50), {})).rates.bus_bandwidth)


def test_the_text_names_every_part_and_what_is_missing() -> None:
    rows = run_rows(2, 50)
    for own in rows.values():
        own["input"] = np.nan
    text = report(merge(rows, {})).to_text()
    assert "input not measured" in " ".join(text.split())
    for part in ("compute", "wait_peer", "transfer", "update", "other"):
        assert f"\n{part} " in text
    assert "nan" not in text


def test_a_run_of_which_nothing_was_measured_can_be_reported() -> None:
    text = report(merge({0: run_rows(1, 1)[0]}, {})).to_text()
    assert "no verdict: 0 measured steps" in text
    assert "nan" not in text


def test_contradicting_stamps_are_counted() -> None:
    rows = run_rows(1, 50)
    rows[0]["update"][7] = -1
    assert "1 steps had contradicting stamps" in report(merge(rows, {})).to_text()


def test_a_record_shows_its_name_and_what_measuring_cost(tmp_path: Path) -> None:
    rows = run_rows(2, 100, compile_step=False)
    record = run_record(tmp_path, rows)
    found = report_record(record)
    assert found.title == "wide_deep"
    wall = sum(float((own["end"] - own["begin"]).sum()) for own in rows.values())
    assert found.measuring_pct == pytest.approx(100 * 2 * 0.001 / wall)
    assert "measuring cost 0.0" in found.to_text()


def test_the_stage_of_the_input_is_reported_only_where_the_input_is_worth_a_word(
    tmp_path: Path,
) -> None:
    sums = {"fetch": 0.1, "parse": 0.6, "batches": 100.0, "readers": 3.0, "cpu_s": 1.0}
    for seconds, expected in ((0.0002, "input: no problem"), (0.020, "input is parse-bound")):
        record = run_record(tmp_path / str(seconds), run_rows(2, 100, input=seconds))
        record.info.input = {0: sums, 1: sums}
        text = report_record(record).to_text()
        assert expected in text
        assert ("parse-bound" in text) == (seconds > 0.01)


def test_the_report_has_the_remedies_and_the_means_that_add_up() -> None:
    found = report(merge(run_rows(3, 120, late={1: {"compute": 0.02}}), {}))
    lines = found.to_text().splitlines()
    assert lines[1].startswith("Try: ")
    assert sum(part.mean for part in found.parts) == pytest.approx(found.rates.step)
    assert any(line.startswith("waiting: ") and "by durations alone" in line for line in lines)
