"""Do N ranks with their shards compute the weights of one process with the global batch?

Every case trains 100 steps: in a group of 2 and of 4 ranks, in a `%%distributed` cell,
each rank on its own part of every global batch and from its own initial weights; and
once in one process, with the plain optimizer on the whole batch. The difference of a
case is max |a - b| / max |b| over its weights. Adding in another order rounds otherwise,
so three things separate rounding from a wrong exchange: `max_rel_diff_fp64`, the same in
float64; `rounding_floor`, one process in float32 against itself with the rows of each
batch in reverse; and a control, the plain optimizer on the ranks, which must not agree.

    python benchmarks/equivalence.py
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import _harness as harness
import numpy as np

from eai_notebook.session import Session

STEPS = 100
TOLERANCE = 1e-6
DIVERGES = 1e-3

CASES = """
import keras, numpy as np, tensorflow as tf
import eai_notebook as eai

BATCH, FEATURES, IDS = 64, 12, 50

def make_data(kind, steps):
    rng = np.random.default_rng(11)
    if kind == "embedding":
        x = rng.zipf(1.3, (steps, BATCH, 4)).astype("int64") % IDS
        y = rng.normal(size=IDS)[x].mean(axis=-1, keepdims=True)
    else:
        x = rng.normal(size=(steps, BATCH, FEATURES)).astype(keras.config.floatx())
        y = np.tanh(x @ rng.normal(size=(FEATURES, 1)))
    return x, y.astype(keras.config.floatx())

def make_model(kind, seed):
    keras.utils.set_random_seed(seed)
    if kind == "embedding":
        first = [keras.Input((4,), dtype="int64"), keras.layers.Embedding(IDS, 8),
                 keras.layers.Flatten()]
    else:
        first = [keras.Input((FEATURES,))]
    return keras.Sequential([*first, keras.layers.Dense(32, "tanh"),
                             keras.layers.Dense(16, "tanh"), keras.layers.Dense(1)])

OPTIMIZERS = {
    "sgd": lambda: keras.optimizers.SGD(0.02),
    "momentum": lambda: keras.optimizers.SGD(0.005, momentum=0.9),
    "adam": lambda: keras.optimizers.Adam(1e-3),
    "ftrl": lambda: keras.optimizers.Ftrl(0.05),
}

def train(kind, optimizer, steps, rank, size, how, floatx="float32", order=1):
    keras.config.set_floatx(floatx)
    keras.config.set_dtype_policy(floatx)
    model = make_model(kind, seed=rank)
    plain = OPTIMIZERS[optimizer]()
    x, y = make_data(kind, steps)
    part = slice(rank * BATCH // size, (rank + 1) * BATCH // size)
    x, y = x[:, part][:, ::order], y[:, part][:, ::order]
    data = tf.data.Dataset.from_tensor_slices((x, y))
    if how == "plain":
        model.compile(plain, "mse")
        model.fit(data, verbose=0, shuffle=False)
    else:
        # Plain Keras squares repeated rows one by one; so must we to be compared with it.
        model.compile(eai.DistributedOptimizer(plain, sparse="rows"), "mse")
        eai.fit(model, data, verbose=0)
    return [np.asarray(w) for w in model.get_weights()]
"""


def difference(ours: list[np.ndarray], reference: list[np.ndarray]) -> float:
    """Return the largest difference of two sets of weights, relative to the largest weight."""
    apart = max(float(np.abs(a - b).max()) for a, b in zip(ours, reference, strict=True))
    return apart / max(float(np.abs(b).max()) for b in reference)


def in_group(size: int, cases: list[tuple[str, str]], steps: int, **where: Any) -> dict[str, Any]:
    """Train all cases and the control on `size` ranks; return each rank's weights by case."""
    with Session(size, **where) as session:
        session.run(CASES)
        session.push(cases=cases, steps=steps)
        session.run(
            "weights = {f'{floatx} {kind} {optimizer}': "
            "train(kind, optimizer, steps, eai.rank(), eai.size(), 'distributed', floatx) "
            "for floatx in ('float32', 'float64') for kind, optimizer in cases}\n"
            "weights['control'] = train('dense', 'sgd', steps, eai.rank(), eai.size(), 'plain')"
        )
        return {str(rank): session.pull("weights", rank) for rank in range(size)}


def in_one_process(cases: list[tuple[str, str]], steps: int) -> tuple[dict[str, Any], float]:
    """Train all cases on the global batch; return the weights by case and the rounding floor."""
    names: dict[str, Any] = {}
    exec(CASES, names)  # noqa: S102 -- the very source that the ranks run
    weights, floor = {}, 0.0
    for kind, optimizer in cases:
        harness.say(f"one process: {kind} {optimizer}")
        task = (kind, optimizer, steps, 0, 1, "plain")
        for floatx in ("float32", "float64"):
            weights[f"{floatx} {kind} {optimizer}"] = names["train"](*task, floatx)
        again = names["train"](*task, "float32", -1)
        floor = max(floor, difference(again, weights[f"float32 {kind} {optimizer}"]))
    weights["control"] = weights["float32 dense sgd"]
    return weights, floor


def main() -> None:
    """Run all cases and say how far they are apart."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--sizes", type=int, nargs="*", default=[2, 4])
    arguments = parser.parse_args()
    cases = [
        (kind, optimizer)
        for kind in ("dense", "embedding")
        for optimizer in ("sgd", "momentum", "adam", "ftrl")
    ]
    reference, floor = in_one_process(cases, arguments.steps)
    apart: dict[str, float] = {}
    between = 0.0
    for size in arguments.sizes:
        harness.say(f"{size} ranks")
        weights = in_group(size, cases, arguments.steps)
        for case, expected in reference.items():
            apart[f"{size} ranks, {case}"] = max(
                difference(w[case], expected) for w in weights.values()
            )
            if case != "control":
                found = [difference(w[case], weights["0"][case]) for w in weights.values()]
                between = max(between, *found)
    single = [value for case, value in apart.items() if "float32" in case]
    double = [value for case, value in apart.items() if "float64" in case]
    control = min(value for case, value in apart.items() if "control" in case)
    summary = {
        "max_rel_diff": max(single),
        "cases": len(single),
        "max_rel_diff_fp64": max(double),
        "max_rel_diff_between_ranks": between,
        "rounding_floor": floor,
        "control_rel_diff": control,
        "control_diverges": control > DIVERGES,
    }
    harness.finish("equivalence", summary, {"steps": arguments.steps, "differences": apart})
    sys.exit(0 if max(single) <= TOLERANCE and control > DIVERGES else 1)


if __name__ == "__main__":
    main()
