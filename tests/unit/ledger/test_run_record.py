from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import numpy as np
import pytest

from eai_notebook.errors import EaiError
from eai_notebook.ledger.run_record import GONE, RunRecord, list_runs, runs_folder
from eai_notebook.ledger.step_schema import (
    FIRST_FORMAT,
    STEP_DTYPE,
    columns_as_json,
    empty_steps,
)
from eai_notebook.ledger.vitals_curve import VitalsCurve
from eai_notebook.telemetry.messages import RunBegan, RunEnded, StepsDone

if TYPE_CHECKING:
    from pathlib import Path


def began(rank: int, run: str = "run-00000001") -> RunBegan:
    return RunBegan(run, rank, 2, "fit wide/deep", f"host{rank}", 100 + rank, 0.5 * rank, 1e-5)


def started(root: Path) -> RunRecord:
    record = RunRecord.create(root, began(0))
    record.add(began(0))
    record.add(began(1))
    return record


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    record = started(tmp_path)
    rows = empty_steps(4)
    rows["input"] = [0.25, 0.5, np.nan, 1.0]
    record.add(StepsDone("run-00000001", 1, rows[:3]))
    record.add(StepsDone("run-00000001", 1, rows[3:]))
    again = RunRecord(record.path)
    np.testing.assert_array_equal(again.rows(1)["input"], rows["input"])
    assert again.rows(1, start=3)["input"].tolist() == [1.0]
    assert again.ranks == [0, 1]
    assert again.info == record.info
    assert again.info.clock_offset == {0: 0.0, 1: 0.5}
    assert again.info.hosts[1] == "host1"


def test_a_rank_that_has_sent_no_step_has_no_rows(tmp_path: Path) -> None:
    assert len(started(tmp_path).rows(0)) == 0


def test_a_row_cut_off_in_the_middle_is_left_out(tmp_path: Path) -> None:
    record = started(tmp_path)
    record.add(StepsDone("run-00000001", 0, empty_steps(2)))
    steps = record.path / "rank-0.steps"
    steps.write_bytes(steps.read_bytes() + b"x" * (STEP_DTYPE.itemsize - 1))
    assert len(RunRecord(record.path).rows(0)) == 2
    assert len(RunRecord(record.path).rows(0, start=2)) == 0


def test_a_run_is_as_good_as_its_worst_rank(tmp_path: Path) -> None:
    record = started(tmp_path)
    record.add(RunEnded("run-00000001", 0, "done", 0.1))
    assert record.info.state == "running"
    record.add(RunEnded("run-00000001", 1, "failed", 0.2))
    assert RunRecord(record.path).info.state == "failed"
    assert record.info.measuring == {0: 0.1, 1: 0.2}


def test_ranks_that_are_gone_are_not_waited_for(tmp_path: Path) -> None:
    record = started(tmp_path)
    record.add(RunEnded("run-00000001", 0, "done", 0.1, {}, {GONE: [1]}))
    assert RunRecord(record.path).info.state == "done"


def test_a_run_its_ranks_did_not_end_is_lost_and_a_done_one_stays_done(tmp_path: Path) -> None:
    record = started(tmp_path)
    record.close("lost")
    assert RunRecord(record.path).info.state == "lost"
    record.close("done")
    assert RunRecord(record.path).info.state == "lost"


def test_runs_are_listed_newest_first(tmp_path: Path) -> None:
    paths = [RunRecord.create(tmp_path, began(0, f"run-0000000{n}")).path for n in range(3)]
    assert set(list_runs(tmp_path)) == set(paths)
    assert list_runs(tmp_path)[0].name >= list_runs(tmp_path)[-1].name
    assert list_runs(tmp_path / "nowhere") == []


def test_a_folder_that_is_no_record_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EaiError, match="not a run record"):
        RunRecord(tmp_path)
    (tmp_path / "run.json").write_text('{"format": 1}')
    with pytest.raises(EaiError, match="not a run record"):
        RunRecord(tmp_path)


@pytest.mark.parametrize(
    "name", ["run.json", "labels.json", "vitals.json", "training.jsonl", "rank-0.steps"]
)
def test_what_is_no_file_is_neither_waited_for_nor_read_without_end(
    tmp_path: Path, name: str
) -> None:
    path = started(tmp_path).path
    (path / name).unlink(missing_ok=True)
    os.mkfifo(path / name)
    if name in ("labels.json", "vitals.json"):  # a record is none the worse for these
        assert RunRecord(path).labels() == {}
        assert RunRecord(path).vitals().model({}) == VitalsCurve().model({})
        return
    with pytest.raises(EaiError, match=name):
        RunRecord(path)
    (path / name).unlink()
    (path / name).symlink_to("/dev/zero")
    with pytest.raises(EaiError, match=name):
        RunRecord(path)


def test_brackets_without_end_are_no_record(tmp_path: Path) -> None:
    path = started(tmp_path).path
    for name in ("labels.json", "vitals.json", "training.jsonl"):
        (path / name).write_text('{"name": ' + "[" * 200_000 + "\n")
    record = RunRecord(path)
    assert record.labels() == {}
    assert record.vitals().model({}) == VitalsCurve().model({})
    assert record.training()[0] == []
    (path / "run.json").write_text("[" * 200_000)
    with pytest.raises(EaiError, match="not a run record"):
        RunRecord(path)


def test_the_folder_of_runs_can_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EAI_RUNS", raising=False)
    assert runs_folder() == tmp_path / ".eai" / "runs"
    monkeypatch.setenv("EAI_RUNS", str(tmp_path / "else"))
    assert runs_folder() == tmp_path / "else"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("size", "2"),
        ("size", 10**15),
        ("started", "now"),
        ("hosts", {"0": {"a": 1}}),
        ("hosts", []),
        ("clock_offset", {"0": "x"}),
        ("measuring", {"0": None}),
        ("input", {"0": {"read": "x"}}),
        ("pids", {"x": 1}),
        ("meta", []),
    ],
)
def test_a_record_with_another_type_of_text_is_named(
    tmp_path: Path, field: str, value: object
) -> None:
    file = started(tmp_path).path / "run.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), field: value}))
    with pytest.raises(EaiError, match="is not a run record"):
        RunRecord(file.parent)


def test_a_record_of_the_first_format_is_read(tmp_path: Path) -> None:
    record = RunRecord.create(tmp_path, RunBegan("r", 0, 1, "fit", "here", 1))
    record.add(RunBegan("r", 0, 1, "fit", "here", 1))
    old = np.zeros(3, FIRST_FORMAT)
    old["step"], old["input"] = range(3), 0.25
    (record.path / "rank-0.steps").write_bytes(old.tobytes() + b"half a row")
    info = json.loads((record.path / "run.json").read_text())
    info["format"] = 1
    for name in ("named", "cores", "columns"):
        del info[name]
    (record.path / "run.json").write_text(json.dumps(info))
    again = RunRecord(record.path)
    rows = again.rows(0, start=1)
    assert rows["step"].tolist() == [1, 2]
    assert rows["input"].tolist() == [0.25, 0.25]
    assert np.isnan(rows["callback"]).all()


def test_rows_are_read_by_the_columns_that_the_record_lists(tmp_path: Path) -> None:
    record = RunRecord.create(tmp_path, RunBegan("r", 0, 1, "fit", "here", 1))
    record.add(RunBegan("r", 0, 1, "fit", "here", 1))
    kept = np.dtype([("end", "<f8"), ("step", "<i8"), ("begin", "<f8"), ("mine", "<f8")])
    rows = np.array([(2.0, 0, 1.0, 0.5), (3.0, 1, 2.0, 0.5)], kept)
    (record.path / "rank-0.steps").write_bytes(rows.tobytes())
    info = json.loads((record.path / "run.json").read_text())
    info["columns"] = columns_as_json(kept)
    (record.path / "run.json").write_text(json.dumps(info))
    again = RunRecord(record.path)
    assert again.rows(0)["begin"].tolist() == [1.0, 2.0]
    assert np.isnan(again.rows(0)["input"]).all()
    assert again.info.unknown_columns() == ["mine"]
    again.add(StepsDone("r", 0, empty_steps(1)))
    assert RunRecord(record.path).count(0) == 3
    assert RunRecord(record.path).rows(0)["step"].tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    "columns",
    [
        None,
        [],
        "step",
        [["step", "<i8"], ["begin", "<f8"]],
        [["step", "<i8"], ["begin", "<f8"], ["end", "|O"]],
        [["step", "<i8"], ["begin", "<f8"], ["end", "<f8"], ["end", "<f8"]],
        [["step", "<i8"], ["begin", "<f8"], ["end", "<f8"], [1, "<f8"]],
    ],
)
def test_columns_that_are_none_are_refused(tmp_path: Path, columns: object) -> None:
    file = started(tmp_path).path / "run.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "columns": columns}))
    with pytest.raises(EaiError, match="is not a run record"):
        RunRecord(file.parent)


def test_a_record_of_a_format_to_come_is_refused(tmp_path: Path) -> None:
    record = RunRecord.create(tmp_path, RunBegan("r", 0, 1, "fit", "here", 1))
    text = (record.path / "run.json").read_text()
    (record.path / "run.json").write_text(text.replace('"format": 2', '"format": 99'))
    with pytest.raises(EaiError, match="format 99"):
        RunRecord(record.path)


@pytest.mark.parametrize("lost", [1, 7, 5000, 10_003])
def test_what_a_power_cut_left_as_zeros_is_no_row(tmp_path: Path, lost: int) -> None:
    """The file has its new length, but what was written there was not yet on the disk."""
    record = started(tmp_path)
    rows = empty_steps(10_003)
    rows["end"] = 1e9
    path = record.path / "rank-0.steps"
    whole = rows.tobytes()
    kept = 10_003 - lost
    path.write_bytes(whole[: kept * rows.itemsize] + bytes(lost * rows.itemsize + 5))
    again = RunRecord(record.path)
    assert again.count(0) == kept
    assert again.rows(0)["step"].tolist() == list(range(kept))
