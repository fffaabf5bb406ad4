"""Updates by rows against Keras's own: 17 tables of 2 million rows, 8192 rows a batch, one rank.

Both train the same tables with the same batches, in turns of a few steps: Keras's optimizer as it
comes, the same once more (the ratio of the two is the noise), ``row_wise="exact"`` and
``row_wise="lazy"``. Ids are as unequal as in click logs. Each turn has a process of its own, so that
memory holds one set of tables at a time; its first steps are left out.

`max_rel_diff_exact` is the largest difference of a weight after 300 steps, over the largest weight of
its table. `auc_equivalent` trains a small click model with either update, with 20 seeds.

    python benchmarks/row_wise.py                    # about 25 minutes on 2 cores, 4 GB
    python benchmarks/row_wise.py --rows 20000 --rounds 2 --seeds 2   # whether it works
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import _harness as harness
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

TABLES, BATCH, WIDTH = 17, 8192, 8
KINDS = ("adam", "adagrad", "ftrl")
WAYS = ("keras", "keras again", "exact", "lazy")
LEFT_OUT = 2


def make(kind: str) -> Any:
    """Return a plain Keras optimizer."""
    import keras

    made = {
        "adam": lambda: keras.optimizers.Adam(1e-3),
        "adagrad": lambda: keras.optimizers.Adagrad(0.02),
        "ftrl": lambda: keras.optimizers.Ftrl(0.05),
    }
    return made[kind]()


def row_wise(way: str) -> str | None:
    """Return the argument of `DistributedOptimizer` for a way to update."""
    return None if way.startswith("keras") else way


def tables_and_step(kind: str, way: str, rows: int, count: int) -> tuple[list[Any], Any]:
    """Return tables of `rows` rows, and a compiled step that takes ids ``[count, batch]``."""
    import keras
    import tensorflow as tf

    import eai_notebook as eai

    keras.utils.set_random_seed(0)
    layers = [keras.layers.Embedding(rows, WIDTH, name=f"table_{n}") for n in range(count)]
    for layer in layers:
        layer.build()
    tables = [layer.embeddings for layer in layers]
    optimizer = eai.DistributedOptimizer(make(kind), row_wise=row_wise(way))
    optimizer.build(tables)

    @tf.function
    def step(ids: Any) -> Any:
        with tf.GradientTape() as tape:
            found = [layer(ids[n]) for n, layer in enumerate(layers)]
            loss = tf.add_n([tf.reduce_mean((each - 1.0) ** 2) for each in found])
        gradients = tape.gradient(loss, [table.value for table in tables])
        optimizer.apply(gradients, tables)
        return loss

    return tables, step


def batches(rows: int, count: int, steps: int) -> np.ndarray:
    """Return ids int32 ``[steps, tables, batch]``, whose popularity falls as rank**-1.5."""
    rng = np.random.default_rng(1)
    drawn = rng.zipf(1.5, (steps, count, BATCH)) - 1
    mixed = (drawn * 2654435761) % rows  # spread over the table, as hashing does
    return mixed.astype("i4")


def turn(kind: str, way: str, rows: int, steps: int) -> list[float]:
    """Return the seconds of some steps."""
    import tensorflow as tf

    _, step = tables_and_step(kind, way, rows, TABLES)
    taken = []
    for ids in map(tf.constant, batches(rows, TABLES, steps + LEFT_OUT)):
        began = time.perf_counter()
        step(ids).numpy()
        taken.append(time.perf_counter() - began)
    return taken[LEFT_OUT:]


def difference(kind: str, rows: int, steps: int = 300) -> float:
    """Return the largest difference of a weight between exact and Keras's own updates."""
    import tensorflow as tf

    found = []
    for way in ("keras", "exact"):
        tables, step = tables_and_step(kind, way, rows, 2)
        for ids in batches(rows, 2, steps)[:, :, : BATCH // 16]:
            step(tf.constant(ids))
        found.append([np.asarray(table) for table in tables])
    pairs = zip(*found, strict=True)
    return max(float(np.max(np.abs(a - b)) / np.max(np.abs(a))) for a, b in pairs)


def auc_gap(kind: str, seeds: int) -> list[float]:
    """Return the difference of the AUC, exact minus Keras's, of a small click model by seed."""
    import keras

    import eai_notebook as eai

    found = []
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        ids = ((rng.zipf(1.3, (60_000, 4)) - 1) % 2000).astype("i4")
        pull = rng.normal(size=(4, 2000))
        score = sum(pull[n, ids[:, n]] for n in range(4))
        clicks = (rng.random(len(ids)) < 1 / (1 + np.exp(-score))).astype("f4")[:, None]
        scores = []
        for way in ("keras", "exact"):
            keras.utils.set_random_seed(seed)
            given = keras.Input((4,), dtype="int32")
            rows = keras.layers.Embedding(8000, 4)(given + np.arange(4, dtype="i4") * 2000)
            hidden = keras.layers.Dense(16, "relu")(keras.layers.Flatten()(rows))
            model = keras.Model(given, keras.layers.Dense(1, "sigmoid")(hidden))
            model.compile(make(kind), "binary_crossentropy")
            eai.fit(
                model, ids[:50_000], clicks[:50_000], batch_size=500, verbose=0,
                row_wise=row_wise(way),
            )  # fmt: skip
            predicted = model.predict(ids[50_000:], batch_size=10_000, verbose=0)
            scores.append(eai.models.auc(clicks[50_000:], predicted))
        found.append(scores[1] - scores[0])
    return found


def in_process(work: str, *arguments: Any) -> Any:
    """Do a part of this file's work in a process of its own, and return what it found."""
    given = [sys.executable, __file__, "--work", json.dumps([work, *arguments])]
    quiet = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(given, check=True, stdout=subprocess.PIPE, text=True, env=quiet)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Measure, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--steps", type=int, default=3, help="steps of a turn")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--work", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.work:
        name, *arguments = json.loads(asked.work)
        work: dict[str, Callable[..., Any]] = {
            "turn": turn,
            "difference": difference,
            "auc_gap": auc_gap,
        }
        sys.stdout.write(json.dumps(work[name](*arguments)) + "\n")
        return
    summary: dict[str, Any] = {}
    details: dict[str, Any] = {"tables": TABLES, "batch": BATCH, "width": WIDTH, **vars(asked)}
    gaps = []
    for kind in KINDS:
        seconds: dict[str, list[float]] = {way: [] for way in WAYS}
        for number in range(asked.rounds):
            for way in WAYS if number % 2 == 0 else WAYS[::-1]:
                taken = in_process("turn", kind, way, asked.rows, asked.steps)
                seconds[way].append(float(np.median(taken)))
                harness.say(f"{kind} {number} {way} {seconds[way][-1]:.3f} s")
        details[kind] = seconds
        plain = np.array(seconds["keras"])
        for way, key in (("exact", "ratio"), ("lazy", "lazy_ratio"), ("keras again", "control")):
            ratio = plain / np.array(seconds[way])
            summary[f"{kind}_{key}"] = round(float(np.median(ratio)), 3)
            summary[f"{kind}_{key}_95"] = [round(x, 3) for x in harness.bootstrap_interval(ratio)]
        details[f"{kind} difference"] = in_process("difference", kind, min(asked.rows, 20_000))
        details[f"{kind} auc gaps"] = in_process("auc_gap", kind, asked.seeds)
        gaps.append(max(map(abs, details[f"{kind} auc gaps"])))
    summary["max_rel_diff_exact"] = max(details[f"{kind} difference"] for kind in KINDS)
    summary["auc_gap"] = max(gaps)
    summary["auc_equivalent"] = bool(max(gaps) <= 0.0005)
    harness.finish("row_wise", summary, details)


if __name__ == "__main__":
    main()
