from __future__ import annotations

from typing import TYPE_CHECKING

from synthetic import run_record, run_rows

from eai_notebook.display import text
from eai_notebook.display.plain_text import WIDTH
from eai_notebook.ledger.view_model import record_view

if TYPE_CHECKING:
    from pathlib import Path


def test_every_rank_has_a_bar_in_proportion_and_the_rates_stand_below(tmp_path: Path) -> None:
    rows = run_rows(3, 60, jitter=0.0, late={1: {"input": 0.010}})
    shown = text(record_view(run_record(tmp_path, rows)))
    lines = shown.splitlines()
    assert lines[0].endswith("so ranks 0, 2 idle 10.0 ms of 22.6 ms (44 %)")
    bars = [line[9 : 9 + WIDTH] for line in lines[1:] if line.startswith("rank ")]
    assert [len(bar.strip()) for bar in bars] == [WIDTH] * 3
    assert bars[1].count("i") > 15 > bars[0].count("i")
    assert bars[0].count("w") == bars[2].count("w") > 15
    assert "w" not in bars[1]
    assert lines[-2].startswith("60 steps on 3 ranks · 22.6 ms a step · 67,9")
    assert "communication 1.00 ms exposed, 2.00 ms hidden" in lines[-2]
    assert lines[-1].startswith("price of waiting: input wait 0.7, slower ranks 1.2, ")
    assert lines[-1].endswith(" of 11.5 rank-seconds")


def test_a_run_without_measured_steps_is_reported_too(tmp_path: Path) -> None:
    shown = text(record_view(run_record(tmp_path, run_rows(1, 1))))
    assert shown.startswith("no verdict: 0 measured steps")
    assert shown.endswith("1 steps on 1 rank · measuring 0.0004 %")


def test_rounding_does_not_add_up_to_a_longer_bar(tmp_path: Path) -> None:
    view = record_view(run_record(tmp_path, run_rows(1, 20)))
    view["ranks"][0]["ms"] = [1.0, 1.0, 1.0, 1.0, 1.0, None]
    bar = next(line for line in text(view).splitlines() if line.startswith("rank 0"))
    assert len(bar[9:].split()[0]) == WIDTH
