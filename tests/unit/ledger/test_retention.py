"""Run records: which are removed, cut back to whole rows, and brought to the disk."""

from __future__ import annotations

import errno
import math
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner
from waiting import wait_until

from eai_notebook.cli import app
from eai_notebook.errors import EaiError
from eai_notebook.ledger import run_record as records
from eai_notebook.ledger.retention import DAY_S, Limits, beyond, kept_runs, limits, prune
from eai_notebook.ledger.run_lock import RunLock
from eai_notebook.ledger.run_record import RunRecord, list_runs
from eai_notebook.ledger.step_schema import STEP_DTYPE, empty_steps
from eai_notebook.ledger.syncing import Syncer
from eai_notebook.session.run_recorder import RunRecorder
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
    touch(moved, age)
    return made


def touch(folder: Path, age: float) -> None:
    for path in (*folder.iterdir(), folder):
        os.utime(path, (time.time() - age, time.time() - age))


def test_the_oldest_go_first_and_a_run_that_goes_on_never(tmp_path: Path) -> None:
    for number in range(4):
        make(tmp_path, f"{number}", age=(4 - number) * DAY_S)
    make(tmp_path, "0-open", ended=False)
    found = kept_runs(tmp_path)
    each = found[0].size
    assert [run.path.name[0] for run in beyond(found, Limits(3.5 * each, math.inf))] == ["0"]
    assert [run.path.name[0] for run in beyond(found, Limits(math.inf, 2.5))] == ["1", "0"]
    assert len(beyond(found, Limits(0, math.inf))) == 4


def test_a_starred_run_and_one_that_is_written_stay_whatever_the_clock_says(tmp_path: Path) -> None:
    for name in ("starred", "written", "old"):
        make(tmp_path, name, age=400 * DAY_S, ended=name != "written")
    make(tmp_path, "future", age=-30 * DAY_S)
    lock = RunLock(tmp_path / "written-run")
    RunRecord(tmp_path / "starred-run").label(starred=True)
    for path in (tmp_path / "starred-run").iterdir():
        os.utime(path, (0, 0))
    assert "removed 1 run records" in prune(tmp_path, limits())
    assert {path.name for path in tmp_path.iterdir()} == {
        "starred-run",
        "written-run",
        "future-run",
    }
    lock.release()
    touch(tmp_path / "written-run", 400 * DAY_S)
    assert "removed 1 run records" in prune(tmp_path, limits())
    assert not (tmp_path / "written-run").exists()


def test_a_lock_goes_with_the_process_that_holds_it(tmp_path: Path) -> None:
    made = make(tmp_path, "a", age=400 * DAY_S, ended=False)
    code = (
        "import sys, pathlib; from eai_notebook.ledger.run_lock import RunLock\n"
        "lock = RunLock(pathlib.Path(sys.argv[1])); print(flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(made.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    holder.stdout.readline()
    assert prune(tmp_path, limits()) == ""
    holder.kill()
    holder.communicate()
    touch(made.path, 400 * DAY_S)
    assert prune(tmp_path, limits()) != ""
    assert not made.path.exists()


def test_a_new_run_prunes_without_being_asked_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EAI_RUNS_DAYS", "30")
    root = tmp_path / "runs"
    make(root, "old", age=31 * DAY_S)
    make(root, "young", age=29 * DAY_S)
    logs = tmp_path / "logs"
    logs.mkdir()
    for name, age in (("cell-1.log", 31), ("cell-2.log", 29), ("mine.log", 31)):
        (logs / name).touch()
        os.utime(logs / name, (time.time() - age * DAY_S,) * 2)
    recorder = RunRecorder(root)
    recorder.take(RunBegan("new", 0, 1, "fit", "here", 1))
    said: list[str] = []

    def is_said() -> bool:
        said.extend(recorder.notices_due())
        return bool(said)

    assert wait_until(is_said)
    assert "removed 1 run records and 1 logs of cells" in said[0]
    assert "30 days" in said[0]
    assert not (root / "old-run").exists()
    assert (root / "young-run").exists()
    assert {path.name for path in logs.iterdir()} == {"cell-2.log", "mine.log"}
    assert kept_runs(root)[0].locked or kept_runs(root)[-1].locked
    recorder.take(RunEnded("new", 0, "done", measuring=0.0))
    recorder.views_due(ended=True)
    assert not any(run.locked for run in kept_runs(root))


def test_records_that_another_process_removes_are_passed_over(tmp_path: Path) -> None:
    def come_and_go() -> None:
        for number in range(300):
            shutil.rmtree(make(tmp_path, f"run{number}", 1).path)

    other = threading.Thread(target=come_and_go)
    other.start()
    while other.is_alive():
        assert len(kept_runs(tmp_path)) <= 1
    other.join()


@pytest.mark.parametrize("text", ["-1", "much", "nan"])
def test_a_limit_that_is_no_number_is_an_error(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EAI_RUNS_GB", text)
    with pytest.raises(EaiError, match="EAI_RUNS_GB") as caught:
        limits()
    assert caught.value.code == "environment-invalid"
    monkeypatch.setenv("EAI_RUNS_GB", "none")
    assert math.isinf(limits().size)


def test_runs_are_listed_with_the_limit_and_removed_now_where_asked(tmp_path: Path) -> None:
    for number in range(3):
        make(tmp_path, f"{number}", age=number * DAY_S)
    said = CliRunner().invoke(app, ["runs", str(tmp_path)]).output
    assert "the limit is 10 GB and 90 days" in said
    assert len(list_runs(tmp_path)) == 3
    said = CliRunner().invoke(app, ["runs", str(tmp_path), "--days", "1.5"]).output
    assert "1 runs" in said
    assert "--prune" in said
    assert len(list_runs(tmp_path)) == 3
    said = CliRunner().invoke(app, ["runs", str(tmp_path), "--days", "1.5", "--prune"]).output
    assert "removed 1 run records" in said
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
    expected = {str(made.path / "rank-0.steps"), str(made.path)}
    assert wait_until(lambda: expected <= set(synced))


def test_what_the_run_is_is_on_the_disk_before_it_takes_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    sync, replace = os.fsync, Path.replace

    def noted_sync(number: int) -> None:
        steps.append(f"sync {Path(f'/proc/self/fd/{number}').readlink().name}")
        sync(number)

    def noted_replace(path: Path, target: Path) -> Path:
        steps.append(f"replace {target.name}")
        return replace(path, target)

    monkeypatch.setattr(records, "syncer", Syncer())
    monkeypatch.setattr(os, "fsync", noted_sync)
    monkeypatch.setattr(Path, "replace", noted_replace)
    make(tmp_path, "a", rows=0)
    at = steps.index("replace run.json")
    assert "sync run.tmp" in steps[:at]
