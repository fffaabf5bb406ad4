"""A job that is queued again and again without progress ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from eai_notebook.errors import EaiError
from eai_notebook.jobs.requeue_guard import STARTS, STOPS, RequeueGuard
from eai_notebook.telemetry import training_progress


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(training_progress.JOB_FOLDER, str(tmp_path))
    return tmp_path


def start(folder: Path) -> RequeueGuard:
    guard = RequeueGuard(folder)
    guard.begin()
    return guard


def test_stops_without_progress_one_after_the_other_end_the_job(folder: Path) -> None:
    for _ in range(STOPS - 1):
        start(folder).stopped()
    guard = start(folder)
    training_progress.note(Path("ckpt"), 0, 0)  # an epoch that begins again gains nothing
    with pytest.raises(EaiError, match="goes on from epoch 1, step 0") as raised:
        guard.stopped()
    assert raised.value.code == "job-no-progress"


def test_progress_between_stops_keeps_the_job(folder: Path) -> None:
    for epoch in range(3 * STOPS):
        guard = start(folder)
        if epoch % STOPS:
            training_progress.note(Path("ckpt"), epoch, 0)
        guard.stopped()


def test_a_second_training_is_progress_although_its_epoch_is_an_earlier_one(folder: Path) -> None:
    training_progress.note(Path("first"), 9, 0)
    for step in range(1, 3 * STOPS):
        guard = start(folder)
        training_progress.note(Path("second"), 0, step)
        training_progress.note(Path("first"), 3, 0)  # not back
        guard.stopped()
    assert training_progress.furthest(folder)[str(Path("first").absolute())] == [9, 0]


def test_starts_that_were_cut_without_progress_end_the_job_after_many(folder: Path) -> None:
    for _ in range(STARTS):
        start(folder)
    training_progress.note(Path("ckpt"), 0, 5)
    for _ in range(STARTS):
        start(folder)
    with pytest.raises(EaiError, match=f"last {STARTS} starts made no progress") as raised:
        start(folder)
    assert raised.value.code == "job-no-progress"
