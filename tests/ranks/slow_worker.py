"""Synchronous parameter servers with one worker slowed at random, against the global batch."""

import json
import os
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.distribute.coordinator import cluster_coordinator

from eai_notebook import collective, parameter_servers
from eai_notebook.train import fit

RUNS = int(os.environ.get("EAI_TEST_RUNS", "5"))
STEPS = 5

slow = 0
delays = np.random.default_rng(2)
take = cluster_coordinator._CoordinatedClosureQueue.get


def take_late(queue: Any, timeout: float | None = None, tag: int | None = None) -> Any:
    """Take a worker's next task as the coordinator does on a busy machine: some time later."""
    if tag == slow:
        time.sleep(delays.random() * 0.1)
    return take(queue, timeout=timeout, tag=tag)


cluster_coordinator._CoordinatedClosureQueue.get = take_late
parameter_servers.start(1)
rank = collective.rank()
rng = np.random.default_rng(11)
x = rng.normal(size=(STEPS, 2, 4, 3)).astype("f4")  # steps, ranks, rows, features
y = x.sum(-1, keepdims=True) * (1 + np.arange(2).reshape(1, 2, 1, 1)).astype("f4")


def model() -> keras.Model:
    keras.utils.set_random_seed(1)
    made = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    made.compile(keras.optimizers.SGD(0.05), "mse")
    return made


def train(run: int) -> np.ndarray:
    """Train with the worker of rank ``run % 2`` slowed down in some of its steps."""
    global slow
    slow = run % 2

    def mine() -> Any:
        for step in range(STEPS):
            yield x[step, rank], y[step, rank]

    spec = (tf.TensorSpec((4, 3)), tf.TensorSpec((4, 1)))
    data = tf.data.Dataset.from_generator(mine, output_signature=spec)
    trained = model()
    fit(trained, data, epochs=1, steps_per_epoch=STEPS, verbose=0)
    return np.concatenate([each.ravel() for each in trained.get_weights()])


def expected() -> np.ndarray:
    kernel, bias = model().get_weights()
    for step in range(STEPS):
        rows, wanted = x[step].reshape(8, 3), y[step].reshape(8, 1)
        error = 2 * (rows @ kernel + bias - wanted) / 8
        kernel, bias = kernel - 0.05 * rows.T @ error, bias - 0.05 * error.sum(0)
    return np.concatenate([kernel.ravel(), bias.ravel()])


right = expected()
differences = [float(np.abs(train(run) - right).max()) for run in range(RUNS)]
result = {"runs": RUNS, "differences": differences}
place = Path(os.environ["EAI_TEST_RESULTS"])
(place / f"{os.environ['OMPI_COMM_WORLD_RANK']}.json").write_text(json.dumps(result))
