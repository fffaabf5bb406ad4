"""Our own bookkeeping fails in every place it can, and no cell ends of it."""

from __future__ import annotations

import io
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from paths import RANKS
from synthetic import run_rows
from waiting import PATIENCE_S

from eai_notebook.bookkeeping import DISPLAY, RECORD, Bookkeeping, say
from eai_notebook.engine import resource_usage
from eai_notebook.session import Session, Watcher
from eai_notebook.session.guarded_watcher import GuardedWatcher
from eai_notebook.session.run_recorder import RunRecorder
from eai_notebook.telemetry import messages
from eai_notebook.telemetry.messages import RunBegan, RunEnded, StepsDone

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from conftest import PreloadedRanks

BEGAN = RunBegan("r", 0, 1, "fit", "here", 1)


def fail(error: Exception) -> None:
    raise error


def rows() -> np.ndarray:
    return run_rows(1, 4)[0]


def test_a_line_of_ours_is_lost_where_the_users_output_is_not_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    closed = io.StringIO()
    closed.close()
    for output in (None, closed, object()):
        monkeypatch.setattr(sys, "stdout", output)
        monkeypatch.setattr(sys, "stderr", output)
        say("a line")
        say("a line", error=True)


def test_a_failure_is_reported_once_a_cell_with_its_remedy() -> None:
    said: list[str] = []
    books = Bookkeeping(said.append)
    for _ in range(3):
        with books.doing(RECORD):
            fail(OSError("no room"))
    assert len(said) == 1
    assert "no room" in said[0]
    assert "EAI_RUNS" in said[0]
    with books.doing(DISPLAY):
        fail(ValueError())
    books.begin_cell()
    with books.doing(RECORD):
        fail(OSError("no room"))
    assert len(said) == 3


def test_an_interrupt_is_not_caught() -> None:
    with pytest.raises(KeyboardInterrupt), Bookkeeping(print).doing(RECORD):
        raise KeyboardInterrupt


def test_a_report_that_fails_ends_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    def broken(_line: str) -> None:
        raise BrokenPipeError

    with Bookkeeping(broken).doing(RECORD):
        fail(OSError("no room"))
    del capfd


def spoil_full(record: Path) -> None:
    (record / "rank-0.steps").symlink_to("/dev/full")


def spoil_removed(record: Path) -> None:
    for path in record.iterdir():
        path.unlink()
    record.rmdir()


@pytest.mark.parametrize("spoil", [spoil_full, spoil_removed])
def test_a_record_that_cannot_be_written_stops_and_is_reported_once(
    tmp_path: Path, spoil: Any
) -> None:
    said: list[str] = []
    keeper = RunRecorder(tmp_path, Bookkeeping(said.append))
    keeper.take(BEGAN)
    spoil(keeper.records[0].path)
    for _ in range(3):
        keeper.take(StepsDone("r", 0, rows()))
    keeper.take(RunBegan("r", 1, 2, "fit", "here", 1))  # a rank that comes later begins none anew
    keeper.take(RunEnded("r", 0, "done", 0.0))
    assert keeper.views_due(ended=True) == []
    assert len(said) == 1
    assert str(tmp_path) in said[0]
    keeper.take(RunBegan("r2", 0, 1, "fit", "here", 1))  # the next run has a record again
    keeper.take(StepsDone("r2", 0, rows()))
    ((view, final),) = keeper.views_due(ended=True)
    assert view["run"]["steps"] == 4
    assert final


def test_a_file_in_the_place_of_the_folder_is_reported(tmp_path: Path) -> None:
    said: list[str] = []
    (tmp_path / ".eai").write_text("x")
    keeper = RunRecorder(tmp_path / ".eai" / "runs", Bookkeeping(said.append))
    keeper.take(BEGAN)
    keeper.take(StepsDone("r", 0, rows()))
    assert keeper.views_due(ended=True) == []
    assert len(said) == 1
    assert ".eai" in said[0]


class Broken(Watcher):
    """Fails at whatever it should show, but for text."""

    def __init__(self) -> None:
        self.said = ""

    def text(self, stream: str, text: str) -> None:
        del stream
        self.said += text

    def progress(self, words: str, *, final: bool = False) -> None:
        raise RuntimeError(f"no display of {words}, {final}")

    def group(self, model: dict[str, Any]) -> None:
        raise RuntimeError(f"no panel for {model}")

    def run(self, view: dict[str, Any], *, final: bool) -> None:
        raise RuntimeError(f"no chart of {view}, {final}")


def test_a_watcher_that_fails_is_reported_once() -> None:
    broken = Broken()
    watcher = GuardedWatcher(broken)
    for _ in range(2):
        watcher.progress("x")
        watcher.group_from(dict)
        watcher.run({}, final=False)
    assert broken.said.count("no display") == 1
    assert broken.said.count("no panel") == 1
    assert "no chart" not in broken.said  # the display has been reported


def test_a_sink_that_fails_ends_no_training(capsys: pytest.CaptureFixture[str]) -> None:
    def full(_batch: object) -> None:
        raise OSError("no room")

    before = messages.set_sink(full)
    try:
        messages.emit(BEGAN)
        messages.emit(RunEnded("r", 0, "done", 0.0))
    finally:
        messages.set_sink(before)
        messages.books.begin_cell()
    assert capsys.readouterr().err.count("no room") == 1


def test_vitals_that_fail_are_measured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = threading.Semaphore(0)

    def fail(_self: object) -> None:
        looked.release()
        raise OSError("no /proc")

    monkeypatch.setattr(resource_usage.ResourceMonitor, "look", fail)
    monkeypatch.setattr(resource_usage, "EVERY_S", 0.0)
    monkeypatch.setattr(resource_usage, "LOOK_S", 0.01)
    running = True
    thread = resource_usage.watch(0, lambda: running)
    assert looked.acquire(timeout=PATIENCE_S)
    assert looked.acquire(timeout=PATIENCE_S)
    assert thread.is_alive()
    running = False
    messages.books.begin_cell()


TRAIN = (RANKS / "emit_a_run.py").read_text()


@pytest.mark.ranks
@pytest.mark.slow
def test_training_goes_on_when_nothing_can_be_kept_or_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, preloaded_ranks: PreloadedRanks
) -> None:
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("EAI_RUNS", str(tmp_path / "file" / "runs"))
    broken = Broken()
    with preloaded_ranks(), Session(2, watcher=broken) as session:
        session.run(TRAIN)
        assert session.pull("steps") == 20
        assert broken.said.count("the record of this run") == 1
        assert broken.said.count("sending what this rank measures stopped") == 1
        session.run("print('still', steps)")
        assert "still 20" in broken.said
