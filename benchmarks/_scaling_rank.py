"""Rank program of `scaling.py`: Wide & Deep on one rank and on all, in turns."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any

import _on_hosts
import horovod.tensorflow as hvd
import keras
import numpy as np
import tensorflow as tf

import eai_notebook as eai
from eai_notebook import collective
from eai_notebook.train.exchange import gradients

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

BATCHES = 4
WIRES = ("fp16", "int8")
RATE = 0.01


class WideDeep:
    """`eai.models.wide_deep`, and one compiled training step for each way of exchanging.

    All begin with the same weights and compute alike; each way has an optimizer of its own (SGD).
    """

    def __init__(self, buckets: int, hidden: Sequence[int]) -> None:
        keras.utils.set_random_seed(0)
        schema = eai.io.CRITEO.with_buckets(buckets)
        self.model = eai.models.wide_deep(schema, hidden=hidden)
        self.variables = self.model.trainable_variables
        self.steps = {
            "alone": self._step(lambda each: each, keras.optimizers.SGD(RATE)),
            "alone merged": self._step(
                lambda each: [gradients.merged(g) for g in each], keras.optimizers.SGD(RATE)
            ),
            "stock": self._step(self._horovod, keras.optimizers.SGD(RATE)),
            **{wire: self._step(lambda each: each, _ours(wire)) for wire in WIRES},
        }

    def _step(self, exchange: Callable[[list[Any]], list[Any]], optimizer: Any) -> Any:
        optimizer.build(self.variables)
        cross_entropy = keras.losses.BinaryCrossentropy()

        def step(ids: Any, numbers: Any, clicks: Any) -> None:
            with tf.GradientTape() as tape:
                found = self.model({"numbers": numbers, "ids": ids}, training=True)
                loss = cross_entropy(clicks, found)
            found = tape.gradient(loss, [variable.value for variable in self.variables])
            optimizer.apply(exchange(found), self.variables)

        return tf.function(step, autograph=False, reduce_retracing=True)

    def _horovod(self, found: list[Any]) -> list[Any]:
        """Average as Horovod's own gradient tape does: each by itself, rows by allgather."""
        return [hvd.allreduce(each, name=f"stock.{index}") for index, each in enumerate(found)]


def _ours(wire: Any) -> eai.DistributedOptimizer:
    """Return what averages in the format `wire`."""
    optimizer = eai.DistributedOptimizer(keras.optimizers.SGD(RATE), wire=wire)
    optimizer.shared = True  # the seed has made the same weights on all ranks
    return optimizer


def batches(asked: dict[str, Any], rank: int) -> list[tuple[Any, ...]]:
    """Return a rank's batches; an id's popularity falls with its number to the power ``zipf``."""
    rng = np.random.default_rng(rank)
    buckets, rows = asked["buckets"], asked["batch"]
    popularity = np.arange(1, buckets + 1, dtype=np.float64) ** -asked["zipf"]
    edges = np.cumsum(popularity) / popularity.sum()
    made = []
    for _ in range(BATCHES):
        draws = rng.random((rows, len(eai.io.CRITEO.categorical)))
        ids = np.minimum(np.searchsorted(edges, draws), buckets - 1).astype("i4")
        numbers = rng.normal(size=(rows, len(eai.io.CRITEO.integers))).astype("f4")
        clicks = (rng.random((rows, 1)) < 0.3).astype("f4")
        made.append((ids, numbers, clicks))
    return made


class Turns:
    """Runs a step several times, on one rank or on all, and returns the time of one."""

    def __init__(self, asked: dict[str, Any]) -> None:
        self.work = WideDeep(asked["buckets"], asked["hidden"])
        whole = batches(asked, eai.rank())
        part = asked["batch"] // eai.size()
        self.data = {
            "weak": [tuple(map(tf.constant, each)) for each in whole],
            "strong": [tuple(tf.constant(a[:part]) for a in each) for each in whole],
        }
        self.steps: int = asked["steps"]
        self._number = 0

    def _run(self, way: str, size: str) -> float:
        """Return the seconds that one step took, the mean of several one after another."""
        begin = time.perf_counter()
        for number in range(self.steps):
            self.work.steps[way](*self.data[size][number % BATCHES])
        return (time.perf_counter() - begin) / self.steps

    def together(self, way: str, size: str) -> tuple[float, float]:
        """Return the seconds and the bytes a rank sent, of a step that all ranks make."""
        collective.barrier()
        before = _on_hosts.sent_bytes()
        mine = self._run(way, size)
        collective.barrier()
        sent = (_on_hosts.sent_bytes() - before) / self.steps
        table = collective.gather_numpy(np.array([mine, sent]))
        return float(table[:, 0].max()), float(table[:, 1].mean())

    def alone(self, ways: Sequence[str]) -> list[float]:
        """Return the seconds of each way's steps on rank 0, while all others are asleep.

        The ring is given up meanwhile: its thread looks for work a thousand times a second,
        which a host that trains by itself does not pay for.
        """
        rank = eai.rank()
        collective.barrier()
        collective.release()
        self._number += 1
        over = _on_hosts.folder() / f"alone-{self._number}"
        found = [0.0] * len(ways)
        if rank == 0:
            found = [self._run(way, "weak") for way in ways]
            over.touch()
        _await(over)
        collective.form()
        return found


def _await(file: Path) -> None:
    while not file.exists():
        time.sleep(0.05)


def main() -> None:
    """Make the model and its connections on quick links, then measure."""
    asked = json.loads(sys.argv[1])
    collective.form()
    if eai.rank() == 0:
        _on_hosts.ask_rate(None)
    collective.barrier()
    turns = Turns(asked)
    _on_hosts.say("the model is made")
    turns.steps, steps = 1, turns.steps
    plan = [(way, size) for way, size in map(str.split, asked["plan"])]
    for way, size in plan:
        turns.together(way, size)
    turns.alone(["alone", "alone merged"])
    turns.steps = steps
    if eai.rank() == 0:
        _on_hosts.ask_cores(asked["cores"])
        _on_hosts.ask_rate(asked["rate"])
    collective.barrier()
    found = measure(turns, plan, asked["rounds"])
    if eai.rank() == 0:
        _on_hosts.report(found)


def measure(turns: Turns, plan: list[tuple[str, str]], rounds: int) -> dict[str, Any]:
    """Return the seconds and bytes of every round by what was run."""
    found: dict[str, Any] = {"seconds": {}, "bytes": {}}

    def note(name: str, seconds: float, sent: float = 0.0) -> None:
        found["seconds"].setdefault(name, []).append(seconds)
        found["bytes"].setdefault(name, []).append(sent)
        _on_hosts.say(f"{name}: {seconds:.3f} s a step, {sent / 1e6:.2f} MB")

    for number in range(rounds):
        ways = ["alone", "alone merged", "alone"]
        names = ["alone", "alone merged", "alone again"]
        for name, seconds in zip(names, turns.alone(ways), strict=True):
            note(name, seconds)
        for way, size in plan if number % 2 else plan[::-1]:
            turns.steps, steps = 1, turns.steps
            turns.together(way, size)  # a new ring has forgotten scales and connections
            turns.steps = steps
            note(f"{way} {size}", *turns.together(way, size))
    return found


if __name__ == "__main__":
    main()
