"""What a session writes into a run's record: its name, and what lists of runs show of it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from synthetic import run_rows

from eai_notebook.display import run_browser
from eai_notebook.ledger.run_record import RunRecord
from eai_notebook.ledger.view_model import LiveView
from eai_notebook.session.run_recorder import RunRecorder
from eai_notebook.telemetry.messages import RunBegan, RunEnded, StepsDone, TrainingProgress
from eai_notebook.train.recording.step_clock import SLOWEST_S

if TYPE_CHECKING:
    from pathlib import Path


def kept(root: Path, *, unnamed: bool) -> RunRecord:
    keeper = RunRecorder(root)
    rows = run_rows(2, 60)
    meta = {"epochs": 1, "steps_per_epoch": 60} | ({"unnamed": True} if unnamed else {})
    for rank in range(2):
        keeper.take(RunBegan("r12345678", rank, 2, "wide", "here", 1, meta=meta))
    for rank in range(2):
        keeper.take(StepsDone("r12345678", rank, rows[rank]))
    keeper.take(TrainingProgress("r12345678", 0, 60, 0, {"loss": 0.25}, whole=True))
    for rank in range(2):
        keeper.take(RunEnded("r12345678", rank, "done", 0.0))
    ((view, final),) = keeper.views_due()
    assert final
    assert view["training"]["values"] == {"loss": 0.25}
    return RunRecord(keeper.records[0].path)


def test_a_list_of_runs_shows_what_a_run_came_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EAI_RUNS", str(tmp_path))
    record = kept(tmp_path, unnamed=False)
    (entry,) = run_browser.listed()
    assert (entry["name"], entry["steps"], entry["values"]) == ("wide", 60, {"loss": 0.25})
    assert entry["step_ms"] == pytest.approx(12.7, rel=0.1)
    assert entry["kind"] == "compute"
    assert entry["ended"] >= entry["started"]
    assert record.info.ended is not None


@pytest.mark.parametrize(
    ("unnamed", "notebook", "name"),
    [
        (True, "work/02_wide.ipynb", "02_wide / wide"),
        (False, "work/02_wide.ipynb", "wide"),
        (True, "", "wide"),
    ],
)
def test_a_run_without_a_name_is_called_after_its_notebook(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, unnamed: bool, notebook: str, name: str
) -> None:
    monkeypatch.setenv("JPY_SESSION_NAME", notebook)
    assert kept(tmp_path, unnamed=unnamed).info.name == name


def test_a_run_is_looked_at_as_soon_as_all_ranks_have_sent_their_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    keeper, rows = RunRecorder(tmp_path), run_rows(2, 60)

    def send(first: int, *ranks: int) -> list[int]:
        """Have ranks send ten steps; return what views due then show, in steps."""
        for rank in ranks:
            keeper.take(StepsDone("r12345678", rank, rows[rank][first : first + 10]))
        return [view["run"]["steps"] for view, _ in keeper.views_due()]

    for rank in range(2):
        keeper.take(RunBegan("r12345678", rank, 2, "wide", "here", 1))
    now[0] = 1.0
    assert send(0, 0, 1) == [10]
    assert send(10) == []
    now[0] = 1.3
    assert send(10, 0) == []  # half of a step is nothing to look at
    assert send(10, 1) == [20]
    now[0] = 2.1
    assert send(20, 0) == [20]  # a rank that is late is not waited for


def test_each_batch_of_steps_is_shown_before_the_next_where_a_look_takes_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    quick = LiveView.look

    def slow(view: LiveView) -> dict[str, Any]:
        now[0] += 0.09
        return quick(view)

    monkeypatch.setattr(LiveView, "look", slow)
    keeper, rows = RunRecorder(tmp_path), run_rows(1, 60)
    keeper.take(RunBegan("r12345678", 0, 1, "wide", "here", 1))
    shown = []
    for batch in range(6):
        now[0] = 1 + batch * SLOWEST_S
        keeper.take(StepsDone("r12345678", 0, rows[0][10 * batch : 10 * batch + 10]))
        shown += [view["run"]["steps"] for view, _ in keeper.views_due()]
    assert shown == [10, 20, 30, 40, 50, 60]
