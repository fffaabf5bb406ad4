from __future__ import annotations

import json
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import pytest
from synthetic import run_record, run_rows

from eai_notebook.ledger import perfetto_export as traces
from eai_notebook.ledger.parts import PARTS
from eai_notebook.ledger.perfetto_export import PARTS_TRACK, STEPS_TRACK, trace, trace_text
from eai_notebook.ledger.run_record import RunRecord
from eai_notebook.telemetry.messages import RunBegan, StepsDone

if TYPE_CHECKING:
    from pathlib import Path


def spans(made: dict[str, Any], track: int) -> dict[int, list[tuple[float, float, str]]]:
    """Return begin, end and name of each rank's spans on a track."""
    found = defaultdict(list)
    for event in made["traceEvents"]:
        if event["ph"] == "X" and event["tid"] == track:
            ended = event["ts"] + event["dur"]
            found[event["pid"]].append((event["ts"], ended, event["name"]))
    return found


def test_the_parts_of_each_step_fill_it_without_gap_or_overlap(tmp_path: Path) -> None:
    made = trace(run_record(tmp_path, run_rows(3, 40, late={1: {"compute": 0.005}})))
    steps, parts = spans(made, STEPS_TRACK), spans(made, PARTS_TRACK)
    assert sorted(steps) == sorted(parts) == [0, 1, 2]
    for rank in parts:
        assert len(steps[rank]) == 40
        for before, after in zip(parts[rank], parts[rank][1:], strict=False):
            assert after[0] == pytest.approx(before[1], abs=1)
        assert parts[rank][0][0] == pytest.approx(steps[rank][0][0], abs=1)
        assert parts[rank][-1][1] == pytest.approx(steps[rank][-1][1], abs=1)
        assert {name for _, _, name in parts[rank]} <= set(PARTS)
    waits = {rank: sum(b - a for a, b, n in parts[rank] if n == "wait_peer") for rank in parts}
    assert waits[0] > 39 * 4000 > waits[1]


def test_the_ranks_are_on_one_clock(tmp_path: Path) -> None:
    rows = run_rows(2, 20)
    for name in ("begin", "end", "ready", "reduced"):
        rows[1][name] -= 7.0
    record = RunRecord.create(tmp_path, RunBegan("r", 0, 2, "fit", "a", 1))
    record.add(RunBegan("r", 0, 2, "fit", "a", 1))
    record.add(RunBegan("r", 1, 2, "fit", "b", 2, clock_offset=7.0))
    for rank in rows:
        record.add(StepsDone("r", rank, rows[rank]))
    made = trace(record)
    steps = spans(made, STEPS_TRACK)
    for one, two in zip(steps[0], steps[1], strict=True):
        assert one[0] == pytest.approx(two[0], abs=1000)
    assert min(event["ts"] for event in made["traceEvents"] if "ts" in event) == 0
    names = [e["args"]["name"] for e in made["traceEvents"] if e["name"] == "process_name"]
    assert names == ["rank 0 on a", "rank 1 on b"]


def test_a_long_run_keeps_its_latest_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traces, "MOST_EVENTS", 8 * 2 * 10)
    record = run_record(tmp_path, run_rows(2, 50))
    names = [name for _, _, name in spans(json.loads(trace_text(record)), STEPS_TRACK)[0]]
    assert names == [f"step {step}" for step in range(40, 50)]
