"""Rank program of `sparse.py`: the same model, exchanges in turns."""

from __future__ import annotations

import itertools
import json
import sys
import time
from typing import Any

import _on_hosts
import horovod.tensorflow as hvd
import numpy as np
import tensorflow as tf

import eai_notebook as eai
from eai_notebook import collective

BATCHES = 4
INTEGERS = 13
RATE = 0.01


class WideDeep:
    """Wide & Deep with a weight and a vector for each id of each table, and its SGD update."""

    def __init__(self, tables: int, rows: int, width: int) -> None:
        def random(index: int, shape: list[int], size: float) -> tf.Variable:
            drawn = tf.random.stateless_uniform(shape, [0, index], -size, size)
            return tf.Variable(drawn, name=f"v{index}")

        sizes = [tables * width + INTEGERS, 64, 32, 1]
        self.wide = [tf.Variable(tf.zeros([rows, 1]), name=f"wide{t}") for t in range(tables)]
        self.deep = [random(t, [rows, width], 0.05) for t in range(tables)]
        self.kernels = [
            random(100 + n, [one, two], one**-0.5)
            for n, (one, two) in enumerate(itertools.pairwise(sizes))
        ]
        self.biases = [tf.Variable(tf.zeros([n]), name=f"b{n}") for n in sizes[1:]]
        self.variables = [*self.wide, *self.deep, *self.kernels, *self.biases]

    def gradients(self, ids: Any, numbers: Any, clicks: Any) -> list[Any]:
        """Return the gradients of a batch's mean loss."""
        columns = tf.unstack(ids, axis=1)
        with tf.GradientTape() as tape:
            looked_up = [tf.gather(t, c) for t, c in zip(self.deep, columns, strict=True)]
            hidden = tf.concat([*looked_up, numbers], 1)
            for kernel, bias in zip(self.kernels, self.biases, strict=True):
                logit = hidden @ kernel + bias
                hidden = tf.nn.relu(logit)
            single = [tf.gather(t, c) for t, c in zip(self.wide, columns, strict=True)]
            logit = logit + tf.add_n(single)
            loss = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(clicks, logit))
        found: list[Any] = tape.gradient(loss, self.variables)
        return found

    def update(self, gradients: list[Any]) -> None:
        """Take a step of SGD."""
        for variable, gradient in zip(self.variables, gradients, strict=True):
            if isinstance(gradient, tf.IndexedSlices):
                rows = tf.IndexedSlices(gradient.values * RATE, gradient.indices)
                variable.scatter_sub(rows)
            else:
                variable.assign_sub(gradient * RATE)


def batches(asked: dict[str, Any], zipf: float, rank: int) -> list[tuple[Any, ...]]:
    """Return a rank's batches: ids whose popularity falls as their number to the power `zipf`."""
    rng = np.random.default_rng([rank, int(1000 * zipf)])
    popularity = np.arange(1, asked["rows"] + 1, dtype=np.float64) ** -zipf
    edges = np.cumsum(popularity) / popularity.sum()
    made = []
    for _ in range(BATCHES):
        draws = rng.random((asked["batch"], asked["tables"]))
        ids = np.minimum(np.searchsorted(edges, draws), asked["rows"] - 1).astype("i4")
        numbers = rng.normal(size=(asked["batch"], INTEGERS)).astype("f4")
        clicks = (rng.random((asked["batch"], 1)) < 0.3).astype("f4")
        made.append(tuple(tf.constant(each) for each in (ids, numbers, clicks)))
    return made


class Steps:
    """One compiled training step for each way of exchanging its gradients."""

    def __init__(self, model: WideDeep) -> None:
        self.model = model
        self.by_name = {
            "horovod": self._step(self._horovod),
            "fp32": self._step(self._ours("fp32")),
            "fp16": self._step(self._ours("fp16")),
            "int8": self._step(self._ours("int8")),
            "none": self._step(list),
        }

    def _step(self, exchange: Any) -> Any:
        def step(ids: Any, numbers: Any, clicks: Any) -> None:
            self.model.update(exchange(self.model.gradients(ids, numbers, clicks)))

        return tf.function(step, autograph=False)

    def _horovod(self, gradients: list[Any]) -> list[Any]:
        """Average as Horovod does: rows by allgather, dense gradients in one message."""
        dense = [p for p, g in enumerate(gradients) if not isinstance(g, tf.IndexedSlices)]
        means = dict(zip(dense, hvd.grouped_allreduce([gradients[p] for p in dense]), strict=True))
        return [
            means[p] if p in means else hvd.allreduce(g, name=f"table.{p}")
            for p, g in enumerate(gradients)
        ]

    def _ours(self, wire: str) -> Any:
        names = [f"{wire}.{v.name}" for v in self.model.variables]
        return lambda gradients: eai.allreduce_gradients(gradients, names, wire=wire)


def measure(steps: Steps, data: list[Any], names: list[str], rounds: int) -> dict[str, Any]:
    """Time the exchanges `names` in turns; return seconds and bytes of each round."""
    seconds: dict[str, list[float]] = {}
    sent: dict[str, list[float]] = {}
    for number in range(rounds):
        for index, name in enumerate(names):
            collective.barrier()
            before, begin = _on_hosts.sent_bytes(), time.perf_counter()
            steps.by_name[name](*data[number % len(data)])
            _on_hosts.say(name)
            collective.barrier()
            taken = time.perf_counter() - begin
            key = name if name not in names[:index] else f"{name} again"
            totals = collective.gather_numpy(np.array([_on_hosts.sent_bytes() - before, taken]))
            sent.setdefault(key, []).append(float(totals[:, 0].mean()))
            seconds.setdefault(key, []).append(float(totals[:, 1].max()))
    return {"seconds": seconds, "bytes": sent}


def difference(steps: Steps, asked: dict[str, Any], zipf: float) -> float:
    """Return how far our fp32 average is from that of one process, relative to its largest.

    The one process is this rank: it computes the gradients of all ranks' batches itself,
    with the same weights, and adds them up in double precision.
    """
    names = [f"check.{v.name}" for v in steps.model.variables]

    def exchanged(*batch: Any) -> Any:
        return eai.allreduce_gradients(steps.model.gradients(*batch), names)

    mine = tf.function(exchanged, autograph=False)(*batches(asked, zipf, eai.rank())[0])
    alone = tf.function(steps.model.gradients, autograph=False)
    every = [alone(*batches(asked, zipf, rank)[0]) for rank in range(eai.size())]
    worst = 0.0
    for index, found in enumerate(mine):
        parts = [gradients[index] for gradients in every]
        if isinstance(found, tf.IndexedSlices):
            ids, order = np.unique(found.indices.numpy(), return_index=True)
            ours = found.values.numpy()[order]
            total = np.zeros(ours.shape)
            for part in parts:
                np.add.at(total, np.searchsorted(ids, part.indices.numpy()), part.values.numpy())
        else:
            ours, total = found.numpy(), np.sum([p.numpy().astype("f8") for p in parts], axis=0)
        mean = total / eai.size()
        worst = max(worst, float(np.abs(ours - mean).max() / np.abs(mean).max()))
    return float(collective.gather_numpy(np.array([worst])).max())


def main() -> None:
    """Measure what is asked for."""
    asked = json.loads(sys.argv[1])
    collective.form()
    steps = Steps(WideDeep(asked["tables"], asked["rows"], asked["width"]))
    _on_hosts.say("the model is made")
    found: dict[str, Any] = {"max_rel_diff": difference(steps, asked, asked["zipf"])}
    _on_hosts.say(f"compared with one process: {found['max_rel_diff']:.2g}")

    def at(rate: float | None, zipf: float, names: list[str], rounds: int) -> dict[str, Any]:
        if eai.rank() == 0:
            _on_hosts.ask_rate(rate)
        data = batches(asked, zipf, eai.rank())
        _on_hosts.say(f"{rate} Mbit/s, Zipf {zipf}")
        measure(steps, data, sorted(set(names)), 2)  # traced, choices made, connections open
        _on_hosts.say("warm")
        return measure(steps, data, names, rounds)

    main_names = ["horovod", "fp16", "fp32", "int8", "horovod"]
    found["main"] = at(asked["rate"], asked["zipf"], main_names, asked["rounds"])
    found["other ids"] = {
        str(zipf): at(asked["rate"], zipf, ["horovod", "fp16", "int8"], asked["few"])
        for zipf in asked["other_zipf"]
    }
    found["other rates"] = {
        str(rate): at(rate, asked["zipf"], ["horovod", "fp16", "none"], asked["few"])
        for rate in asked["other_rates"]
    }
    if eai.rank() == 0:
        _on_hosts.report(found)


if __name__ == "__main__":
    main()
