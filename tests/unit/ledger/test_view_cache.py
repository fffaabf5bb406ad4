"""The view of a long run is kept, and only as long as it is that of the record."""

from __future__ import annotations

from typing import TYPE_CHECKING

import platformdirs
import pytest
from synthetic import run_record, run_rows

from eai_notebook.ledger import view_cache, view_model
from eai_notebook.ledger.followed_run import FollowedRun, read_run
from eai_notebook.ledger.run_record import RunRecord
from eai_notebook.ledger.view_model import record_view

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunRecord:
    """A run that counts as long; a view that is made is a view too many for the second time."""
    monkeypatch.setattr(view_cache, "LEAST_ROWS", 400)
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda _: tmp_path / "cache")
    return run_record(tmp_path / "runs", run_rows(2, 200))


def reads(monkeypatch: pytest.MonkeyPatch) -> list[RunRecord]:
    """Return the records that are read from now on."""
    read: list[RunRecord] = []

    def noted(each: RunRecord) -> FollowedRun:
        read.append(each)
        return read_run(each)

    monkeypatch.setattr(view_model, "read_run", noted)
    return read


def test_a_long_run_is_read_once(record: RunRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    read = reads(monkeypatch)
    first = record_view(record)
    assert record_view(RunRecord(record.path)) == first
    assert len(read) == 1
    record.label(name="another")
    assert record_view(RunRecord(record.path))["run"]["name"] == "another"
    assert len(read) == 1


def test_what_has_changed_is_read_again(record: RunRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    read = reads(monkeypatch)
    record_view(record)
    with (record.path / "rank-1.steps").open("ab") as rows:
        rows.write(run_rows(2, 201)[1][-1:].tobytes())
    record_view(record)
    record.note(learning_rate=0.5)
    record_view(record)
    assert len(read) == 3


def test_a_damaged_view_is_made_again(record: RunRecord, tmp_path: Path) -> None:
    first = record_view(record)
    (kept,) = (tmp_path / "cache" / "views").iterdir()
    kept.write_text("{")
    assert record_view(record) == first
    assert (tmp_path / "cache" / "views").stat().st_mode & 0o77 == 0


def test_short_runs_and_runs_that_go_on_are_not_kept(record: RunRecord, tmp_path: Path) -> None:
    record_view(run_record(tmp_path / "runs", run_rows(2, 199)))
    record.info.state = "running"
    record_view(record)
    assert not (tmp_path / "cache").exists()
