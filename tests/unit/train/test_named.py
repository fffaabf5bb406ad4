"""What goes on beside the training step is in the record by its own name."""

from __future__ import annotations

import gc
import threading
import time
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import eai_notebook as eai
from eai_notebook.ledger.context import Context
from eai_notebook.ledger.parts import OTHER
from eai_notebook.ledger.report import merge_record, report_record
from eai_notebook.ledger.run_record import RunRecord
from eai_notebook.ledger.verdict import verdict
from eai_notebook.telemetry import messages
from eai_notebook.telemetry.messages import RunBegan, RunEnded, StepsDone
from eai_notebook.train.recording import step_clock

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

LONG_S = 0.03


class Slow(keras.callbacks.Callback):
    """Takes its time after each batch, and measures it."""

    took = 0.0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002
        began = time.perf_counter()
        time.sleep(LONG_S)
        self.took += time.perf_counter() - began


class Between(keras.callbacks.Callback):
    """Takes its time after each epoch."""

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002
        time.sleep(LONG_S)


class Collecting(keras.callbacks.Callback):
    """Has the garbage collector run after each batch."""

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002
        gc.collect()


@pytest.fixture
def record(tmp_path: Path) -> Iterator[RunRecord]:
    """The record of what is trained in the test."""
    step_clock.end_run("done")
    made = RunRecord.create(tmp_path, RunBegan("r", 0, 1, "fit", "here", 1))

    def write(batch: Sequence[messages.Message]) -> None:
        for message in batch:
            if isinstance(message, RunBegan | StepsDone | RunEnded):
                made.add(message)

    before = messages.set_sink(write)
    yield made
    messages.set_sink(before)


def model() -> keras.Model:
    made = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    made.compile("sgd", "mse")
    return made


def batches(steps: int, rows: int = 8) -> tf.data.Dataset:
    return tf.data.Dataset.from_tensors((np.ones((rows, 4)), np.ones((rows, 1)))).repeat(steps)


def test_a_callback_is_named_by_class_and_hook(record: RunRecord) -> None:
    slow = Slow()
    began = time.perf_counter()
    eai.fit(model(), batches(20), callbacks=[Between(), slow], verbose=0)
    took = time.perf_counter() - began
    spent = record.info.named[0]
    # What it measures itself, and no more than all that the training took beside the other callback.
    assert 0.999 * slow.took <= spent["callback Slow.on_train_batch_end"] <= took - LONG_S
    assert spent["between Between.on_epoch_end"] >= LONG_S
    assert not any("Between.on_train" in name for name in spent)
    found = verdict(merge_record(record), context=Context.of(record.info))
    assert found.kind == "other"
    assert "the callback `Slow.on_train_batch_end`" in found.sentence
    assert "between steps: Between.on_epoch_end" in report_record(record).to_text()


def test_what_callbacks_take_is_part_of_other_and_of_no_other_step(record: RunRecord) -> None:
    eai.fit(model(), batches(12), 2, callbacks=[Slow()], verbose=0)
    ledger = merge_record(record)
    named = ledger.named[0, 1:, 0]
    # The last batch of an epoch has no step behind it that could be longer.
    has_none = np.arange(1, 24) == 12
    assert (named[~has_none] > 0.9 * LONG_S).all()
    assert not (named[has_none] > 0.9 * LONG_S).any()
    assert np.nansum(ledger.named, axis=2).max() <= np.nanmax(ledger.parts[:, :, OTHER]) + 1e-9
    np.testing.assert_allclose(np.nansum(ledger.parts, axis=2), ledger.wall)


class Sectioned(keras.callbacks.Callback):
    """Has a section in a section after each batch, and one in another thread."""

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002
        with eai.section("outer"):
            time.sleep(LONG_S / 3)
            with eai.section("inner"):
                time.sleep(LONG_S)
        aside = threading.Thread(target=self._aside)
        aside.start()
        aside.join()

    def _aside(self) -> None:
        with eai.section("aside"):
            time.sleep(LONG_S / 10)


def test_sections_are_named_and_count_once(record: RunRecord) -> None:
    eai.fit(model(), batches(12), callbacks=[Sectioned()], verbose=0)
    spent = record.info.named[0]
    assert spent["section inner"] > 12 * LONG_S
    assert spent["section outer"] >= 12 * LONG_S / 3
    assert "section aside" not in spent
    rows = record.rows(0)
    both = spent["section inner"] + spent["section outer"]
    # The last batch has no step behind it.
    assert rows["section"][1:].min() > LONG_S
    assert both * 10 / 12 < np.nansum(rows["section"]) <= both
    found = verdict(merge_record(record), context=Context.of(record.info))
    assert "the section `inner`" in found.sentence
    assert found.tries[0].startswith("do the work of `inner`")
    ledger = merge_record(record)
    np.testing.assert_allclose(np.nansum(ledger.parts, axis=2), ledger.wall)


def test_making_an_iterator_is_named(record: RunRecord) -> None:
    made = 0

    def generate() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        nonlocal made
        made += 1
        for _ in range(6):
            yield np.ones((8, 4), np.float32), np.ones((8, 1), np.float32)

    kinds = tf.TensorSpec((8, 4)), tf.TensorSpec((8, 1))
    data = tf.data.Dataset.from_generator(generate, output_signature=kinds)
    data = data.apply(tf.data.experimental.assert_cardinality(6))
    eai.fit(model(), data, 3, verbose=0)
    rows = record.rows(0)
    assert (rows["iterator"] > 0).nonzero()[0].tolist() == [6, 12]
    assert record.info.named[0]["iterator"] == pytest.approx(rows["iterator"].sum())


def test_a_batch_of_another_shape_is_compiling(record: RunRecord) -> None:
    shapes = [3, 5, 7, 9, 11]
    made = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    made.compile("sgd", "mse")
    data = tf.data.Dataset.from_generator(
        lambda: ((np.ones((rows, 4)), np.ones((rows, 1))) for rows in shapes),
        output_signature=(tf.TensorSpec((None, 4)), tf.TensorSpec((None, 1))),
    ).apply(tf.data.experimental.assert_cardinality(5))
    eai.fit(made, data, verbose=0)
    # Of unknown length, so it was traced once, before the first step.
    assert np.nansum(record.rows(0)["compiling"]) == 0


def test_the_garbage_collector_is_named_and_not_twice(record: RunRecord) -> None:
    junk: list[list[int]] = [[] for _ in range(200_000)]
    eai.fit(model(), batches(4), callbacks=[Collecting()], verbose=0)
    rows = record.rows(0)
    assert (rows["collector"][1:] > 0).all()
    assert rows["callback"][1:].max() < rows["collector"][1:].max()
    assert len(junk) == 200_000
    assert not any("Named" in repr(each) for each in gc.callbacks)


def test_validation_is_reported_between_steps(record: RunRecord) -> None:
    eai.fit(model(), batches(6), 2, validation_data=batches(3), verbose=0)
    assert record.info.named[0]["between validation"] > 0
    assert "validation" in report_record(record).to_text()


def test_the_record_knows_versions_and_how_processors_were_got(record: RunRecord) -> None:
    eai.fit(model(), batches(6), verbose=0)
    assert "keras" in record.info.meta["versions"]
    assert record.info.meta["wire"] == "fp32"
    use = record.info.cores[0]
    assert use["ran"] > 0
    assert use["wall"] > 0
    again = RunRecord(record.path)
    assert again.info.cores == record.info.cores
    assert again.info.named == record.info.named
