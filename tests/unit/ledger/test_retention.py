"""Run records: which are removed, cut back to whole rows, and brought to the disk."""

from __future__ import annotations

import errno
import os
import resource
import signal
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from eai_notebook.cli import app
from eai_notebook.ledger import run_record as records
from eai_notebook.ledger.retention import DAY_S, beyond, kept_runs
from eai_notebook.ledger.run_record import RunRecord, list_runs
from eai_notebook.ledger.step_schema import STEP_DTYPE, empty_steps
from eai_notebook.ledger.syncing import Syncer
from eai_notebook.telemetry.messages import RunBegan, RunEnded, StepsDone

ROW = STEP_DTYPE.itemsize


def make(
    root: Path, name: str, rows: int = 100, *, age: float = 0, ended: bool = True
) -> RunRecord:
    made = RunRecord.create(root, RunBegan(name, 0, 1, "fit", "here", 1))
    moved = root / f"{name}-run"
    made.path.rename(moved)
    made = RunRecord(moved)
    made.add(StepsDone(name, 0, empty_steps(rows)))
    if ended:
        made.add(RunEnded(name, 0, "done", measuring=0.0))
    for path in (*moved.iterdir(), moved):
        os.utime(path, (time.time() - age, time.time() - age))
    return made


def test_the_oldest_go_first_and_a_run_that_goes_on_never(tmp_path: Path) -> None:
    for number in range(4):
        make(tmp_path, f"{number}", age=(4 - number) * DAY_S)
    make(tmp_path, "0-open", ended=False)
    found = kept_runs(tmp_path)
    each = found[0].size
    assert [run.path.name[0] for run in beyond(found, 3.5 * each)] == ["0"]
    assert [run.path.name[0] for run in beyond(found, days=2.5)] == ["1", "0"]
    assert len(beyond(found, 0)) == 4


def test_runs_are_listed_with_the_limit_and_removed_only_when_asked(tmp_path: Path) -> None:
    for number in range(3):
        make(tmp_path, f"{number}", age=number * DAY_S)
    said = CliRunner().invoke(app, ["runs", str(tmp_path)]).output
    assert "the limit is 10 GB" in said
    assert len(list_runs(tmp_path)) == 3
    said = CliRunner().invoke(app, ["runs", str(tmp_path), "--days", "1.5"]).output
    assert "1 runs" in said
    assert "--prune" in said
    assert len(list_runs(tmp_path)) == 3
    said = CliRunner().invoke(app, ["runs", str(tmp_path), "--days", "1.5", "--prune"]).output
    assert "removed 1 runs" in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0-run", "1-run"]


def test_what_is_no_record_or_lies_elsewhere_is_left(tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "runs", tmp_path / "elsewhere"
    root.mkdir()
    made = make(elsewhere, "a", age=9 * DAY_S)
    (root / "link").symlink_to(made.path)
    (root / "thesis").mkdir()
    CliRunner().invoke(app, ["runs", str(root), "--days", "1", "--prune"])
    assert made.path.exists()
    assert (root / "thesis").exists()


def test_a_part_of_a_row_is_cut_off_before_the_next(tmp_path: Path) -> None:
    made = make(tmp_path, "a", rows=3, ended=False)
    file = made.path / "rank-0.steps"
    with file.open("ab") as steps:
        steps.write(b"\xff" * (ROW - 1))
    rows = empty_steps(2)
    rows["step"] = [3, 4]
    RunRecord(made.path).add(StepsDone("a", 0, rows))
    assert file.stat().st_size == 5 * ROW
    assert made.rows(0)["step"].tolist()[3:] == [3, 4]


def test_a_disk_that_is_full_leaves_whole_rows(tmp_path: Path) -> None:
    made = make(tmp_path, "a", rows=3, ended=False)
    file = made.path / "rank-0.steps"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    usual = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4 * ROW + 7, before[1]))
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            made.add(StepsDone("a", 0, empty_steps(2)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, usual)
    assert file.stat().st_size == 3 * ROW


def test_what_is_written_is_brought_to_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    real = os.fsync

    def note(number: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{number}").readlink()))
        real(number)

    monkeypatch.setattr(os, "fsync", note)
    own = Syncer()
    monkeypatch.setattr(records, "syncer", own)
    made = make(tmp_path, "a")
    own.now()
    deadline = time.monotonic() + 10
    expected = {str(made.path / "rank-0.steps"), str(made.path / "run.json"), str(made.path)}
    while not expected <= set(synced) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert expected <= set(synced)
