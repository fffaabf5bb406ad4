"""Rank program of `wire.py --auc`: the same training in each wire format, by seed."""

from __future__ import annotations

import json
import sys
from typing import Any

import _on_hosts
import keras
import numpy as np
import tensorflow as tf

import eai_notebook as eai
from eai_notebook import collective
from eai_notebook.datasets.click_model import MISSING, PlantedModel
from eai_notebook.metrics import auc

RATE = 1e-3
FORMATS = ("fp32", "fp16", "int8", "int4")


def rows(planted: PlantedModel, part: int, count: int, buckets: int) -> tuple[Any, Any, Any]:
    """Return rows as `eai.models.wide_deep` takes them, their clicks, and the clicks' chances."""
    drawn = planted.draw(part, count)
    integers = np.where(drawn.integers == MISSING, 0, drawn.integers)
    numbers = np.log1p(np.maximum(integers, 0)).astype("f4")
    ids = np.where(drawn.missing, buckets - 1, drawn.values % (buckets - 1)).astype("i4")
    return {"numbers": numbers, "ids": ids}, drawn.labels.astype("f4")[:, None], drawn.probabilities


class Training:
    """One model, and for each format an optimizer and a compiled step that trains it."""

    def __init__(self, buckets: int, steps: int) -> None:
        schema = eai.io.CRITEO.with_buckets(buckets)
        self.model = eai.models.wide_deep(schema, hidden=(64, 32))
        self.variables = self.model.trainable_variables
        falling = keras.optimizers.schedules.CosineDecay(RATE, steps)
        self.inner = {name: keras.optimizers.Adam(falling) for name in FORMATS}
        self.outer = {n: eai.DistributedOptimizer(self.inner[n], wire=n) for n in FORMATS}
        for optimizer in self.outer.values():
            optimizer.build(self.variables)
        self.blank = {n: [np.asarray(v) for v in self.inner[n].variables] for n in FORMATS}
        self.steps = {name: self._step(name) for name in FORMATS}
        self.judge = tf.function(lambda x: self.model(x, training=False), autograph=False)

    def _step(self, name: str) -> Any:
        loss = keras.losses.BinaryCrossentropy()

        def step(numbers: Any, ids: Any, clicks: Any) -> None:
            with tf.GradientTape() as tape:
                found = self.model({"numbers": numbers, "ids": ids}, training=True)
                value = loss(clicks, found)
            gradients = tape.gradient(value, [v.value for v in self.variables])
            self.outer[name].apply(gradients, self.variables)

        return tf.function(step, autograph=False)

    def initial(self, seed: int) -> list[np.ndarray]:
        """Return weights to begin with: vectors of ids small, layers by their width, rest 0."""
        rng = np.random.default_rng(seed)
        shapes = [tuple(v.shape) for v in self.variables]
        sizes = [0.05 if shape[0] > 1000 else shape[0] ** -0.5 for shape in shapes]
        return [
            rng.normal(0, size, shape) if len(shape) > 1 and shape[-1] > 1 else np.zeros(shape)
            for size, shape in zip(sizes, shapes, strict=True)
        ]

    def train(self, name: str, start: list[np.ndarray], x: Any, y: Any, batch: int) -> None:
        """Train from `start`, once through the rows, with nothing left from before."""
        self.model.set_weights(start)
        for variable, values in zip(self.inner[name].variables, self.blank[name], strict=True):
            variable.assign(values)
        self.outer[name].exchange_memory.forget()
        for first in range(0, len(y) - batch + 1, batch):
            part = slice(first, first + batch)
            parts = (x["numbers"][part], x["ids"][part], y[part])
            self.steps[name](*map(tf.constant, parts))


def main() -> None:
    """Train and judge; rank 0 reports each seed's AUC by format."""
    asked = json.loads(sys.argv[1])
    collective.form()
    training = Training(asked["buckets"], asked["rows"] // asked["batch"])
    found: dict[str, dict[str, float]] = {}
    for seed in asked["seeds"]:
        planted = PlantedModel(seed)
        x, y, _ = rows(planted, 1 + eai.rank(), asked["rows"], asked["buckets"])
        test, truth, best = rows(planted, 0, asked["test_rows"], asked["buckets"])
        scores = {}
        for name in FORMATS:
            training.train(name, training.initial(seed), x, y, asked["batch"])
            scores[name] = auc(truth, training.judge(test).numpy()) if eai.rank() == 0 else 0.0
            collective.barrier()
        scores["best"] = auc(truth, best) if eai.rank() == 0 else 0.0
        found[str(seed)] = scores
        _on_hosts.say(f"seed {seed}: {scores}")
    if eai.rank() == 0:
        _on_hosts.report(found)


if __name__ == "__main__":
    main()
