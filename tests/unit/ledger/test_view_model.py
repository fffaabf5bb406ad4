from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from synthetic import run_record, run_rows

from eai_notebook.ledger.aggregate import MOST_BUCKETS
from eai_notebook.ledger.parts import PARTS
from eai_notebook.ledger.run_record import RunRecord
from eai_notebook.ledger.step_schema import empty_steps
from eai_notebook.ledger.view_model import MOST_COLUMNS, LiveView, record_view, section_view
from eai_notebook.telemetry.messages import RunBegan, RunEnded, RunMessage, StepsDone

if TYPE_CHECKING:
    from pathlib import Path


def test_a_view_is_strict_json_with_null_for_what_is_missing(tmp_path: Path) -> None:
    rows = run_rows(2, 30)
    for own in rows.values():
        own["input"] = np.nan
    view = record_view(run_record(tmp_path, rows))
    text = json.dumps(view, allow_nan=False)
    assert json.loads(text) == view
    assert view["ranks"][0]["ms"][PARTS.index("input")] is None
    assert view["buckets"]["ms"][5][PARTS.index("input")] is None
    assert view["buckets"]["ms"][5][PARTS.index("compute")] == pytest.approx(10, rel=0.1)


@pytest.mark.parametrize(("steps", "width"), [(1, 1), (240, 1), (241, 2), (1000, 8)])
def test_steps_are_put_into_buckets(tmp_path: Path, steps: int, width: int) -> None:
    view = record_view(run_record(tmp_path, run_rows(1, steps)))
    assert view["buckets"]["width"] == width
    assert view["buckets"]["step"] == list(range(0, steps, width))
    assert len(view["buckets"]["ms"]) == len(view["buckets"]["step"]) <= MOST_BUCKETS
    assert view["run"]["steps"] == steps


def test_a_long_run_on_many_ranks_stays_small_to_send(tmp_path: Path) -> None:
    view = record_view(run_record(tmp_path, run_rows(64, 1000)))
    assert len(json.dumps(view)) < 32_000
    assert [rank["rank"] for rank in view["ranks"]] == list(range(64))
    assert view["ranks"][9]["host"] == "gpu2"


def test_a_run_without_rows_has_a_view(tmp_path: Path) -> None:
    rows = {rank: own[:0] for rank, own in run_rows(2, 1).items()}
    view = record_view(run_record(tmp_path, rows))
    assert view["buckets"]["ms"] == []
    assert view["verdict"]["kind"] == "unknown"
    json.dumps(view, allow_nan=False)


def test_a_live_view_follows_the_slowest_rank_and_ends_as_the_record(tmp_path: Path) -> None:
    rows = run_rows(2, 60)
    record = RunRecord.create(tmp_path, RunBegan("r", 0, 2, "fit", "here", 1))
    live = LiveView(record)
    assert live.look()["run"]["steps"] == 0
    for rank in rows:
        record.add(RunBegan("r", rank, 2, "fit", "here", 1))
    for start in range(0, 60, 10):
        record.add(StepsDone("r", 0, rows[0][start : start + 10]))
        record.add(StepsDone("r", 1, rows[1][start : start + 7]))
        assert live.look()["run"]["steps"] == start + 7
        record.add(StepsDone("r", 1, rows[1][start + 7 : start + 10]))
    running = live.look()
    for rank in rows:
        record.add(RunEnded("r", rank, "done", 0.0))
    ended = live.look()
    assert ended == record_view(record)
    assert ended["buckets"] == running["buckets"]
    assert [rank["ms"] for rank in ended["ranks"]] == [rank["ms"] for rank in running["ranks"]]
    assert {rank["now"]["part"] for rank in running["ranks"]} == {"compute"}
    assert {rank["now"] for rank in ended["ranks"]} == {None}


def test_a_view_that_hears_what_is_written_is_the_one_that_reads_it(tmp_path: Path) -> None:
    rows = run_rows(3, 90, late={1: {"input": 0.004}})
    record = RunRecord.create(tmp_path, RunBegan("r", 0, 3, "fit", "here", 1))
    hearing, reading = LiveView(record), LiveView(record)

    def say(message: RunMessage) -> None:
        record.add(message)
        hearing.add_message(message)

    for rank in rows:
        say(RunBegan("r", rank, 3, "fit", "here", 1))
    for start in range(0, 90, 30):
        for rank in rows:
            # Rank 2 lags behind, and has not said the last steps of each batch yet.
            say(StepsDone("r", rank, rows[rank][start : start + 30 - 5 * (rank == 2)]))
        assert hearing.look()["run"]["steps"] == start + 25
        say(StepsDone("r", 2, rows[2][start + 25 : start + 30]))
    assert hearing.look() == reading.look()
    for rank in rows:
        say(RunEnded("r", rank, "done", 0.0))
    assert hearing.look() == record_view(record)


def test_numbers_are_sent_with_four_digits(tmp_path: Path) -> None:
    rows = run_rows(2, 40, compute=1.23456789, compile_step=False)
    ms = record_view(run_record(tmp_path, rows))["buckets"]["ms"]
    for value in (number for row in ms for number in row if number is not None):
        assert value == float(f"{value:.4g}")


def test_a_rank_that_waits_is_said_to_wait_for_the_one_that_is_late(tmp_path: Path) -> None:
    record = run_record(tmp_path, run_rows(3, 40, late={2: {"compute": 0.050}}))
    record.info.state = "running"
    live = LiveView(record).look()
    assert [rank["now"] for rank in live["ranks"]] == [
        {"part": "wait_peer", "for": 2},
        {"part": "wait_peer", "for": 2},
        {"part": "compute", "for": None},
    ]


def test_the_heat_map_shows_which_rank_was_late_and_when(tmp_path: Path) -> None:
    rows = run_rows(4, 480, jitter=0.0)
    late = run_rows(4, 480, jitter=0.0, late={2: {"compute": 0.010}})
    # Spliced at step 240; only differences within a row matter to the account.
    mixed = {rank: np.concatenate([rows[rank][:240], late[rank][240:]]) for rank in rows}
    heat = record_view(run_record(tmp_path, mixed))["heat"]
    assert heat["columns"] <= MOST_COLUMNS
    cells = np.frombuffer(base64.b64decode(heat["cells"]), np.uint8).reshape(4, heat["columns"])
    half = 240 // heat["width"]
    assert cells[2, half:].min() == 255
    assert cells[[0, 1, 3], 1:].max() == cells[:, 1:half].max() == 1
    assert heat["high_ms"] - heat["low_ms"] == pytest.approx(10, rel=0.01)


def test_one_late_rank_of_many_stands_out_in_the_heat_map(tmp_path: Path) -> None:
    rows = run_rows(64, 100, late={17: {"compute": 0.006}})
    heat = record_view(run_record(tmp_path, rows))["heat"]
    cells = np.frombuffer(base64.b64decode(heat["cells"]), np.uint8).reshape(64, heat["columns"])
    others = np.delete(cells, 17, axis=0)
    assert np.median(cells[17]) > 230
    assert np.median(others) < 100


def test_the_price_adds_up_the_whole_run(tmp_path: Path) -> None:
    rows = run_rows(2, 5000, input=0.005, compile_step=False)
    view = record_view(run_record(tmp_path, rows))
    whole = sum(float((own["end"] - own["begin"]).sum()) for own in rows.values())
    assert view["price"]["rank_s"] == pytest.approx(whole, rel=1e-3)
    assert sum(view["price"]["parts_s"]) == pytest.approx(whole, rel=1e-3)
    waited = sum(float(own["input"].sum()) for own in rows.values())
    assert view["price"]["parts_s"][PARTS.index("input")] == pytest.approx(waited, rel=1e-3)


def test_steps_of_which_only_the_length_is_known_have_a_rate_and_no_parts(tmp_path: Path) -> None:
    rows = empty_steps(40)
    rows["begin"] = np.arange(40.0)
    rows["end"] = rows["begin"] + 0.020
    rows["samples"] = 64.0
    view = record_view(run_record(tmp_path, {0: rows}))
    assert view["rates"]["step_ms"] == pytest.approx(20)
    assert view["rates"]["samples_per_s"] == pytest.approx(3200)
    assert view["ranks"][0]["ms"] == [None] * 6
    assert view["verdict"]["kind"] == "unknown"
    assert "their length was measured, and nothing else" in view["verdict"]["sentence"]


@pytest.mark.parametrize(("first", "stop"), [(100, 140), (0, 1), (299, 300), (500, 600)])
def test_a_section_is_what_the_rows_of_its_steps_say(tmp_path: Path, first: int, stop: int) -> None:
    rows = run_rows(3, 300, late={1: {"input": 0.004}})
    record = run_record(tmp_path, {rank: own[own["step"] % 2 == 0] for rank, own in rows.items()})
    section = json.loads(json.dumps(section_view(record, first, stop), allow_nan=False))
    expected = [step for step in range(first, stop) if step % 2 == 0 and step < 300]
    assert section["buckets"]["step"] == expected
    assert section["buckets"]["width"] == 1
    for rank in section["ranks"] if expected else []:
        own = rows[rank["rank"]][expected]
        wall = 1e3 * np.nanmean(own["end"] - own["begin"])
        known = [part for part in rank["ms"] if part is not None]
        assert sum(known) == pytest.approx(wall, rel=1e-3) or not known
    assert len(section["ranks"]) == (3 if expected else len(section["ranks"]))
