"""Rank program of `sharded_table.py`: create a shard, train, save or load."""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

import eai_notebook as eai
from eai_notebook import collective
from eai_notebook.ledger.step_schema import empty_steps
from eai_notebook.telemetry import messages
from eai_notebook.train.sharded.sharded_variables import rows_of

if TYPE_CHECKING:
    from collections.abc import Sequence

WIDTH = 8
IDS = 8
BLOCK = 1 << 16


def peak_mb() -> float:
    """Return the most memory this process has had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def digest(table: Any) -> str:
    """Return a number that follows from every bit of the whole table, wherever its rows are.

    The sum over all numbers of their bits times an odd number that depends on row and column.
    """
    rank, ranks, total = eai.rank(), eai.size(), np.zeros(1, np.uint64)
    for first in range(0, table.embeddings.shape[0], BLOCK):
        last = min(first + BLOCK, table.embeddings.shape[0])
        rows = rows_of(table.embeddings.value, first, last).view(np.uint32)
        numbers = (np.arange(first, first + len(rows)) * ranks + rank).astype(np.uint64)
        rows, numbers = rows[numbers < table.input_dim], numbers[numbers < table.input_dim]
        positions = numbers[:, None] * np.uint64(WIDTH) + np.arange(WIDTH, dtype=np.uint64)
        factors = (positions * np.uint64(0x9E3779B97F4A7C15)) | np.uint64(1)
        total += (rows.astype(np.uint64) * factors).sum()
    parts = collective.gather_numpy(total.view(np.int64)).view(np.uint64)
    return f"{int(parts.sum()):016x}"


def main() -> None:
    """Train from the newest checkpoint in the folder, if there is one, and report."""
    asked = json.loads(sys.argv[1])
    steps: list[np.ndarray] = []

    def note(batch: Sequence[messages.Message]) -> None:
        steps.extend(each.rows for each in batch if isinstance(each, messages.StepsDone))

    messages.set_sink(note)
    collective.ensure_formed()
    rng = np.random.default_rng(eai.rank())
    count = asked["steps"] * asked["batch"]
    ids = rng.integers(0, asked["rows"], (count, IDS))
    clicks = rng.integers(0, 2, (count, 1)).astype("f4")
    data = tf.data.Dataset.from_tensor_slices((ids, clicks)).batch(asked["batch"])
    before = peak_mb()

    keras.utils.set_random_seed(0)
    table = eai.ShardedEmbedding(asked["rows"], WIDTH, wire="fp16")
    inputs = keras.Input((IDS,), dtype="int64")
    flat = keras.layers.Flatten()(table(inputs))
    model = keras.Model(inputs, keras.layers.Dense(1)(keras.layers.Dense(32, "relu")(flat)))
    model.compile(eai.DistributedOptimizer(keras.optimizers.SGD(1.0)), "mse")
    made = peak_mb()
    probe = ids[:1000, 0]
    first = table(probe).numpy()

    begin = time.perf_counter()
    eai.fit(model, data, epochs=1, verbose=0, checkpoint=asked["folder"])
    seconds = time.perf_counter() - begin
    grown = peak_mb() - before
    rows = np.concatenate(steps) if steps else empty_steps(0)
    report = {
        "numbers_here": int(np.prod(table.embeddings.shape)),
        "before_mb": round(before, 1),
        "made_mb": round(made - before, 1),
        "grown_mb": round(grown, 1),
        "fit_s": round(seconds, 2),
        "steps": len(rows),
        "step_s": float(np.median(rows["end"] - rows["begin"])) if len(rows) else None,
        "bytes_a_step": float(np.nanmedian(rows["bytes"])) if len(rows) else None,
        "changed_of_touched": float((table(probe).numpy() != first).any(1).mean()),
        "digest": digest(table),
    }
    Path(asked["out"], f"{eai.rank()}.json").write_text(json.dumps(report))


if __name__ == "__main__":
    main()
