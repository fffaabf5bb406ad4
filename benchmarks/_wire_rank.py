"""Rank program of `wire.py`: exchanges and whole steps, formats in turns."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any

import _on_hosts
import keras
import numpy as np
import tensorflow as tf

import eai_notebook as eai
from eai_notebook import collective
from eai_notebook.train.exchange import gradients
from eai_notebook.train.exchange.wire_state import Wire
from eai_notebook.train.recording import graph_timestamps

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ORDER = ("fp32", "fp16", "int8", "int4", "fp32 again")


def exchanges(count: int, length: int) -> dict[str, Callable[[], np.ndarray]]:
    """Return for each format a function that averages `count` gradients and returns the counts."""
    rng = np.random.default_rng(eai.rank())
    given = [tf.constant(rng.normal(size=length).astype("f4")) for _ in range(count)]

    def one(name: str) -> Callable[[], np.ndarray]:
        wire = Wire(name.split(maxsplit=1)[0])

        def exchange() -> tf.Tensor:
            found = gradients.exchange(given, [str(index) for index in range(count)], wire)
            # What nobody looks at TensorFlow leaves out, control dependencies or not.
            seen = tf.add_n([tf.reduce_max(each) for each in found.gradients])
            return tf.concat([tf.stack(found.counted), [tf.cast(seen, tf.float64)]], 0)

        compiled = tf.function(exchange, autograph=False)
        return lambda: np.asarray(compiled())

    return {name: one(name) for name in ORDER}


def steps(units: int, layers: int, batch: int) -> dict[str, Callable[[], np.ndarray]]:
    """Return for each format a whole training step of a network; it returns the counts."""
    rng = np.random.default_rng(eai.rank())
    x = tf.constant(rng.normal(size=(batch, units)).astype("f4"))
    y = tf.constant(rng.normal(size=(batch, 1)).astype("f4"))

    def one(name: str) -> Callable[[], np.ndarray]:
        keras.utils.set_random_seed(0)
        hidden = [keras.layers.Dense(units, "relu") for _ in range(layers)]
        model = keras.Sequential([keras.Input((units,)), *hidden, keras.layers.Dense(1)])
        optimizer = eai.DistributedOptimizer(
            keras.optimizers.SGD(1e-3), wire=name.split(maxsplit=1)[0]
        )

        def step() -> tf.Tensor:
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean((model(x, training=True) - y) ** 2)
            variables = model.trainable_variables
            optimizer.apply(tape.gradient(loss, [v.value for v in variables]), variables)
            return graph_timestamps.read()

        compiled = tf.function(step, autograph=False)
        return lambda: np.asarray(compiled())

    return {name: one(name) for name in ORDER}


def measure(work: Mapping[str, Callable[[], np.ndarray]], rounds: int) -> dict[str, Any]:
    """Time all of `work` in turns; return seconds, bytes on the link and bytes as counted."""
    found: dict[str, dict[str, list[float]]] = {
        what: {name: [] for name in work} for what in ("seconds", "bytes", "counted")
    }
    for number in range(rounds + 2):  # the first two trace, and teach fp16 its scales
        for name, run in work.items():
            collective.barrier()
            before, begin = _on_hosts.sent_bytes(), time.perf_counter()
            counted = float(run()[graph_timestamps.BYTES])
            collective.barrier()
            taken = time.perf_counter() - begin
            mine = np.array([taken, _on_hosts.sent_bytes() - before, counted])
            table = collective.gather_numpy(mine)
            if number >= 2:
                found["seconds"][name].append(float(table[:, 0].max()))
                found["bytes"][name].append(float(table[:, 1].mean()))
                found["counted"][name].append(float(table[:, 2].mean()))
    return found


def survives() -> dict[str, float]:
    """Return how far fp16's averages of gradients around 1e-8 and 1e5 are off, relative."""
    rng = np.random.default_rng(0)
    small, large = (rng.normal(size=20_000).astype("f4") * size for size in (1e-8, 1e5))
    wire = Wire("fp16")

    def exchange() -> list[Any]:
        given = [tf.constant(each) * float(1 + eai.rank()) for each in (small, large)]
        return gradients.exchange(given, ["small", "large"], wire).gradients

    compiled = tf.function(exchange, autograph=False)
    for _ in range(3):  # the first time it goes in fp32
        found = compiled()
    share = (1 + eai.size()) / 2
    return {
        name: float(np.abs(got.numpy() / share - was).max() / np.abs(was).max())
        for name, got, was in zip(("1e-8", "1e5"), found, (small, large), strict=True)
    }


def main() -> None:
    """Measure what is asked for."""
    asked = json.loads(sys.argv[1])
    collective.form()
    found: dict[str, Any] = {"survives": survives()}
    _on_hosts.say("1e-8 and 1e5 sent")
    found["exchange"] = measure(exchanges(asked["count"], asked["length"]), asked["rounds"])
    _on_hosts.say("exchanges measured")
    found["step"] = measure(steps(asked["units"], asked["layers"], asked["batch"]), asked["rounds"])
    if eai.rank() == 0:
        _on_hosts.report(found)


if __name__ == "__main__":
    main()
