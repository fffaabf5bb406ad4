"""What input was waited for comes into the run's record and its report."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click_log_files
import keras
import pytest

import eai_notebook as eai
from eai_notebook.ledger.report import report_record
from eai_notebook.ledger.run_record import RunRecord
from eai_notebook.telemetry import input_waits, messages
from eai_notebook.telemetry.messages import RunBegan, RunEnded
from eai_notebook.train.recording import step_clock

if TYPE_CHECKING:
    from pathlib import Path


def test_the_record_keeps_it_and_the_report_shows_it(tmp_path: Path) -> None:
    record = RunRecord.create(tmp_path, RunBegan("r", 0, 1, "fit", "here", 1))
    record.add(RunBegan("r", 0, 1, "fit", "here", 1))
    sums = {"fetch": 2.0, "parse": 6.0, "batches": 100.0, "readers": 3.0, "cpu_s": 1.0}
    record.add(RunEnded("r", 0, "done", 0.0, sums))
    again = RunRecord(record.path)
    assert again.info.input == {0: sums}
    assert "input is parse-bound: parsing is 75 % of 80.0 ms" in report_record(again).to_text()


@pytest.mark.parametrize("sums", [{}, {"batches": 0.0}, {"batches": 10.0, "fetch": 1e-5}])
def test_what_was_not_waited_for_is_not_reported(sums: dict[str, float]) -> None:
    assert input_waits.describe_input_wait([sums]) is None


def test_a_training_reports_what_its_own_steps_waited_for(tmp_path: Path) -> None:
    click_log_files.write_log(tmp_path / "a.tsv", range(96))
    data = eai.io.criteo(tmp_path / "a.tsv", 16)
    list(data)  # what others have waited for is not the training's
    numbers = keras.Input((13,), name="numbers")
    ids = keras.Input((26,), name="ids", dtype="int32")
    out = keras.layers.Dense(1, "sigmoid")(numbers)
    model = keras.Model({"numbers": numbers, "ids": ids}, out)
    model.compile("sgd", "binary_crossentropy")
    ended: list[messages.Message] = []
    step_clock.end_run("done")  # a loop of another test, which only the next run would end
    before = messages.set_sink(ended.extend)
    try:
        eai.fit(model, data, 2, verbose=0)
    finally:
        messages.set_sink(before)
    (waits,) = [message.input for message in ended if isinstance(message, RunEnded)]
    assert waits["batches"] == 12
    assert waits["readers"] >= 1
    assert set(input_waits.BOUND) <= set(waits)
