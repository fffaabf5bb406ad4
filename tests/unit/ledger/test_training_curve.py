"""Loss and metrics of a run: from what the ranks send to what is drawn, kept and reported."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from synthetic import run_record, run_rows

from eai_notebook.display.html_page import page
from eai_notebook.display.static_html import html
from eai_notebook.ledger.report import report_record
from eai_notebook.ledger.run_record import RunRecord
from eai_notebook.ledger.training_curve import MOST_POINTS, TrainingCurve
from eai_notebook.ledger.view_model import LiveView, record_view
from eai_notebook.telemetry.messages import RunBegan, TrainingProgress

if TYPE_CHECKING:
    from pathlib import Path


def progress(
    rank: int, step: int, epoch: int, loss: float, *, whole: bool = False
) -> TrainingProgress:
    return TrainingProgress("abc123", rank, step, epoch, {"loss": loss}, whole=whole)


def trained(folder: Path) -> RunRecord:
    record = run_record(folder, run_rows(2, 40), name="wide")
    record.info.meta.update(epochs=2, steps_per_epoch=20)
    for epoch in range(2):
        for step in range(5, 21, 5):
            for rank in range(2):
                loss = 1 / (1 + step + 20 * epoch) + 0.01 * rank
                record.add(progress(rank, 20 * epoch + step, epoch, loss))
        values = {"loss": 0.5 - 0.1 * epoch, "val_loss": 0.6}
        record.add(TrainingProgress("abc123", 0, 20 * epoch + 20, epoch, values, whole=True))
    return record


def test_the_mean_over_ranks_is_drawn_and_an_epoch_ends_with_the_metrics_of_all(
    tmp_path: Path,
) -> None:
    training = record_view(trained(tmp_path))["training"]
    assert (training["epoch"], training["epochs"], training["steps"]) == (2, 2, 40)
    assert training["values"] == {"loss": 0.4, "val_loss": 0.6}
    assert training["curves"]["loss"]["step"] == [5, 10, 15, 20, 25, 30, 35, 40]
    assert training["curves"]["loss"]["value"][2] == pytest.approx(1 / 16 + 0.005, rel=1e-3)
    assert [end["step"] for end in training["ends"]] == [20, 40]


def test_a_view_that_hears_the_training_is_the_one_that_reads_it(tmp_path: Path) -> None:
    record = RunRecord.create(tmp_path, RunBegan("r", 0, 1, "fit", "here", 1))
    hearing, reading = LiveView(record), LiveView(record)
    for message in (
        RunBegan("r", 0, 1, "fit", "here", 1),
        TrainingProgress("r", 0, 3, 0, {"loss": 0.5, "auc": float("nan")}),
    ):
        record.add(message)
        hearing.add_message(message)
        assert hearing.look() == reading.look()
    assert hearing.look()["training"]["values"] == {"loss": 0.5, "auc": None}
    with (record.path / "training.jsonl").open("a") as lines:
        lines.write("{half a li")
    assert reading.look() == hearing.look()


def test_a_long_curve_stays_short() -> None:
    curve = TrainingCurve(1)
    for step in range(10_000):
        curve.add(progress(0, step, 0, 1.0))
    model = curve.model({})
    assert model is not None
    steps = model["curves"]["loss"]["step"]
    assert MOST_POINTS / 2 <= len(steps) <= MOST_POINTS
    assert steps[0] == 0
    assert steps[-1] > 9_800


def test_report_page_and_twin_show_what_the_training_came_to(tmp_path: Path) -> None:
    record = trained(tmp_path)
    for text in (report_record(record).to_text(), page(record), html(record_view(record))):
        assert "epoch 2 of 2" in text
        assert "val_loss 0.6" in text
    assert "%3Cpolyline" in page(record)


def test_a_run_without_losses_says_nothing_of_them(tmp_path: Path) -> None:
    record = run_record(tmp_path, run_rows(2, 40))
    assert record_view(record)["training"] is None
    assert "epoch" not in html(record_view(record))


def test_a_line_after_half_a_line_is_whole(tmp_path: Path) -> None:
    record = run_record(tmp_path, run_rows(1, 5))
    record.add(progress(0, 1, 0, 0.5))
    with (record.path / "training.jsonl").open("a") as lines:
        lines.write('{"rank": 0, "st')
    record.add(progress(0, 2, 0, 0.25))
    with (record.path / "training.jsonl").open("a") as lines:
        lines.write('{"rank": 0, "step": 3, "epoch": 0, "values": {"loss": "low"}}\n[]\n')
    found, _ = record.training()
    assert [(each.step, each.values["loss"]) for each in found] == [(1, 0.5), (2, 0.25)]
