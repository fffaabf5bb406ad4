"""Trains with a section of its own ; reports what displays say."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import eai_notebook as eai
from eai_notebook.display.plain_text import text
from eai_notebook.display.static_html import html
from eai_notebook.ledger.context import Context
from eai_notebook.ledger.merge import merge
from eai_notebook.ledger.parts import PARTS
from eai_notebook.ledger.perfetto_export import trace
from eai_notebook.ledger.report import merge_record, report_record
from eai_notebook.ledger.run_comparison import compare
from eai_notebook.ledger.run_record import RunRecord
from eai_notebook.ledger.step_schema import empty_steps
from eai_notebook.ledger.verdict import verdict
from eai_notebook.ledger.view_model import record_view
from eai_notebook.telemetry import messages
from eai_notebook.telemetry.messages import RunBegan, RunEnded, StepsDone


class Augmenting(keras.callbacks.Callback):  # type: ignore[misc,unused-ignore]
    """Changes each batch, slowly."""

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        with eai.section("augment"):
            time.sleep(0.02)


def trained(folder: Path) -> RunRecord:
    """Return the record of a training whose callback has a section."""
    record = RunRecord.create(folder, RunBegan("r", 0, 1, "fit", "here", 1))

    def write(batch: Sequence[messages.Message]) -> None:
        for message in batch:
            if isinstance(message, RunBegan | StepsDone | RunEnded):
                record.add(message)

    messages.set_sink(write)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    data = tf.data.Dataset.from_tensors((np.ones((8, 4)), np.ones((8, 1)))).repeat(20)
    eai.fit(model, data, callbacks=[Augmenting()], verbose=0)
    return RunRecord(record.path)


def late_by_augmenting(augment: float) -> Any:
    """Return the ledger of two ranks, of which the second augments longer by `augment` seconds."""
    rows = {rank: empty_steps(60) for rank in (0, 1)}
    for rank, own in rows.items():
        own["begin"] = 0.1 * own["step"]
        own["input"], own["compute"], own["update"] = 0.001, 0.04, 0.005
        own["augment"] = augment * rank
        own["ready"] = own["begin"] + 0.041 + augment * rank
        own["reduced"], own["end"] = own["begin"] + augment + 0.05, own["begin"] + augment + 0.06
    return merge(rows, {})


record = trained(Path.cwd())
view = record_view(record)
ledger = merge_record(record)
late = verdict(late_by_augmenting(0.03))
report(  # type: ignore[name-defined]  # noqa: F821 -- of the fixture `run_ranks`
    {
        "parts": PARTS,
        "path": str(record.path),
        "columns": [name for name, _ in record.info.columns],
        "mean_ms": view["means_ms"][PARTS.index("augment")],
        "steps": int(np.isfinite(ledger.parts[0, :, PARTS.index("augment")]).sum()),
        "sum_error": float(np.abs(np.nansum(ledger.parts, axis=2) / ledger.wall - 1).max()),
        "style": view["added_parts"]["augment"],
        "verdict": vars(verdict(ledger, context=Context.of(record.info))) | {"numbers": {}},
        "late": [late.sentence, late.cause, late.rank],
        "report": report_record(record).to_text(),
        "html": html(view),
        "text": text(view),
        "spans": sorted({e["name"] for e in trace(record)["traceEvents"] if e["ph"] == "X"}),
        "slower": str(compare(late_by_augmenting(0.01), late_by_augmenting(0.03)).slower),
    }
)
