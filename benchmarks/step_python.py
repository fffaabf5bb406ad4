"""What does Python cost a step beside its graph? One process, a graph that does next to nothing.

Calls take turns at random, two kinds at a time, since what one leaves in the processor's caches
the next one finds: the graph of a step without marks, remembered, against the `tf.function`, which
searches for it, and against the measured step as a run calls it, which counts the step as well.
The medians' differences are what a search costs, and what counting does.

- `graph_us`: the remembered graph. `search_us`: what TensorFlow's search adds to it.
- `counting_us`: what the measured step adds. `cold_counting_us`: the same when the process sleeps
  8 ms before each call, so that other processes use the processor's caches.

    python benchmarks/step_python.py
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import time
from typing import TYPE_CHECKING, Any

import _harness as harness

if TYPE_CHECKING:
    from collections.abc import Callable

NEVER: int = 1 << 30
"""A stride with which no step is marked."""


def kinds() -> dict[str, Callable[[], Any]]:
    """Return the three calls, in an open run."""
    import keras
    import numpy as np
    import tensorflow as tf

    import eai_notebook as eai
    from eai_notebook.telemetry import messages
    from eai_notebook.train.measured_step import MeasuredStep
    from eai_notebook.train.recording import step_clock

    model = keras.Sequential([keras.Input((16,)), keras.layers.Dense(4), keras.layers.Dense(1)])
    model.compile(eai.DistributedOptimizer("sgd"), "mse")
    model.optimizer.build(model.trainable_variables)
    x, y = np.ones((8, 16), "float32"), np.ones((8, 1), "float32")
    feed = iter(tf.data.Dataset.from_tensors((x, y)).repeat())
    model.make_train_function()
    step = MeasuredStep(model, model.train_function)
    messages.set_sink(lambda _batch: None)
    running = step_clock.begin_run("python", {})
    step(feed)
    remembered = step._compiled_unmarked(running, feed)  # noqa: SLF001
    remembered(feed)
    searched = remembered._function  # noqa: SLF001

    def measured() -> Any:
        running._every = NEVER  # noqa: SLF001
        return step(feed)

    return {
        "search": lambda: searched(feed),
        "graph": lambda: remembered(feed),
        "counting": measured,
    }


def medians(calls: dict[str, Callable[[], Any]], count: int, pause_s: float) -> dict[str, float]:
    """Return the median length of each call, in us, of `count` of all."""
    took: dict[str, list[float]] = {name: [] for name in calls}
    names = list(calls)
    for _ in range(count):
        name = random.choice(names)
        if pause_s:
            time.sleep(pause_s)
        begin = time.perf_counter()
        calls[name]()
        took[name].append(time.perf_counter() - begin)
    return {name: 1e6 * statistics.median(each) for name, each in took.items()}


def main() -> None:
    """Time all three, hot and cold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=20_000)
    arguments = parser.parse_args()
    # As on ranks with a core each.
    os.environ["TF_NUM_INTEROP_THREADS"] = os.environ["TF_NUM_INTRAOP_THREADS"] = "1"
    calls = kinds()
    medians(calls, 500, 0.0)
    details: dict[str, dict[str, float]] = {}
    for more, pause_s, count in (
        ("search", 0.0, arguments.calls),
        ("counting", 0.0, arguments.calls),
        ("search", 0.008, arguments.calls // 10),
        ("counting", 0.008, arguments.calls // 10),
    ):
        both = {name: calls[name] for name in ("graph", more)}
        details["cold_" * bool(pause_s) + more] = medians(both, count, pause_s)
    summary = {
        "graph_us": details["counting"]["graph"],
        **{
            f"{name}_us": found[name.removeprefix("cold_")] - found["graph"]
            for name, found in details.items()
        },
    }
    harness.finish("step_python", summary, details)


if __name__ == "__main__":
    main()
