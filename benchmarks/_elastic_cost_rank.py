"""A rank of `elastic.py --cost`: trains for some steps that nothing disturbs, and says how long they took.

Arguments: what to train with, as JSON (``elastic``, ``virtual``, ``batch``, ``steps``), and a folder.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
from _step_ends import StepEnds

import eai_notebook as eai

WARM = 20
"""Steps that are not counted."""
WIDTHS = (512, 512, 256)
COLUMNS = 64
asked = json.loads(sys.argv[1])


def main() -> None:
    """Train once."""
    keras.utils.set_random_seed(3)
    layers = [keras.layers.Dense(width, activation="relu") for width in WIDTHS]
    model = keras.Sequential([keras.Input((COLUMNS,)), *layers, keras.layers.Dense(1)])
    optimizer = keras.optimizers.SGD(0.01)
    if not asked["elastic"]:
        optimizer = eai.DistributedOptimizer(optimizer)
    model.compile(optimizer, "mse")
    shares = asked["virtual"] if asked["elastic"] else eai.size()
    count = asked["batch"] * asked["steps"] * asked["virtual"]
    rows = np.random.default_rng(0).normal(size=(count, COLUMNS)).astype("float32")
    clock = StepEnds()
    options: dict[str, Any] = {"batch_size": asked["batch"], "verbose": 0, "callbacks": [clock]}
    if asked["elastic"]:
        options |= {"elastic": True, "virtual_ranks": asked["virtual"]}
    else:
        rows = rows[eai.rank() :: shares]
    eai.fit(model, rows, rows[:, :1], **options)
    spans = np.diff(clock.ends[WARM:])
    if eai.rank() == 0:
        found = {"median": float(np.median(spans)), "mean": float(np.mean(spans))}
        (Path(sys.argv[2]) / "found.json").write_text(json.dumps(found))


main()
sys.stdout.flush()
os._exit(0)
