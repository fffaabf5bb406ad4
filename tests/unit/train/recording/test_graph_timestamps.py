"""Clock readings in the graph: they order what they time, and nothing else."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import eai_notebook as eai
from eai_notebook import collective
from eai_notebook.train.measured_step import MeasuredStep
from eai_notebook.train.recording import graph_timestamps


@pytest.fixture(params=["one thread", "many threads"])
def traced(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> tf.Graph:
    """The graph of a step that exchanges, without a ring: each average is an operation."""
    monkeypatch.setattr(
        graph_timestamps, "runs_one_at_a_time", lambda: request.param == "one thread"
    )

    def average(tensor: tf.Tensor, name: str) -> tf.Tensor:
        return tf.identity(tensor, name=f"exchange{name.split('.')[1]}")

    monkeypatch.setattr(collective, "exchanges", lambda: True)
    monkeypatch.setattr(collective, "allreduce", average)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.Dense(1)])
    model.compile(eai.DistributedOptimizer("adam"), "mse")
    model.optimizer.build(model.trainable_variables)
    data = tf.data.Dataset.from_tensors((np.ones((8, 4)), np.ones((8, 1))))
    step = MeasuredStep(model, plain=print)._marked
    graph: tf.Graph = step.get_concrete_function(iter(data)).graph
    return graph


def before(op: tf.Operation) -> set[str]:
    """Return the names of all operations that `op` waits for."""
    found: set[str] = set()
    waiting: list[Any] = [op]
    while waiting:
        here = waiting.pop()
        for each in (*here.control_inputs, *(tensor.op for tensor in here.inputs)):
            if each.name not in found:
                found.add(each.name)
                waiting.append(each)
    return found


def test_no_gradient_waits_for_the_exchange_of_another(traced: tf.Graph) -> None:
    exchanges = [op for op in traced.get_operations() if op.name.startswith("exchange")]
    assert len(exchanges) == 4
    names = {op.name for op in exchanges}
    for op in exchanges:
        assert not before(op) & names


def test_the_batch_is_asked_for_after_the_clock_was_read(traced: tf.Graph) -> None:
    (fetch,) = [op for op in traced.get_operations() if op.type == "IteratorGetNext"]
    (asked,) = [name for name in before(fetch) if "Timestamp" in name]
    assert not before(traced.get_operation_by_name(asked))


def test_an_exchange_is_enclosed_by_two_readings(traced: tf.Graph) -> None:
    operations = traced.get_operations()
    readings = [op for op in operations if op.type == "Timestamp"]
    for exchange in (op for op in operations if op.name.startswith("exchange")):
        assert any(reading in exchange.control_inputs for reading in readings)
        assert any(exchange in reading.control_inputs for reading in readings)


def test_the_update_is_stamped_after_every_assignment(traced: tf.Graph) -> None:
    readings = [op for op in traced.get_operations() if op.type == "Timestamp"]
    waits = max((before(op) for op in readings), key=len)
    updates = [op.name for op in traced.get_operations() if op.type == "AssignSubVariableOp"]
    assert len(updates) == 4
    assert set(updates) <= waits


def test_on_one_thread_no_update_begins_before_every_gradient_was_stamped(
    traced: tf.Graph, request: pytest.FixtureRequest
) -> None:
    operations = traced.get_operations()
    exchanges = [op.name for op in operations if op.name.startswith("exchange")]
    updates = [op for op in operations if op.type == "AssignSubVariableOp"]
    assert len(updates) == 4
    stamped = [op.name for op in operations if op.type == "Timestamp" and _follows(op, exchanges)]
    assert len(stamped) == 4
    for op in updates:
        if "one thread" in request.node.name:
            assert {*exchanges, *stamped} <= before(op)


def _follows(reading: tf.Operation, exchanges: list[str]) -> bool:
    """Return whether a clock reading waits for one of the exchanges, and nothing but it."""
    return len(before(reading) & set(exchanges)) == 1


@pytest.mark.parametrize(("set_to", "one"), [("1", True), ("2", False), ("8", False)])
def test_the_threads_of_a_rank_are_known(
    monkeypatch: pytest.MonkeyPatch, set_to: str, one: bool
) -> None:
    monkeypatch.setenv("TF_NUM_INTEROP_THREADS", set_to)
    assert graph_timestamps.runs_one_at_a_time() is one


def test_the_marks_cost_is_known_and_small() -> None:
    assert 0 <= graph_timestamps.cost_s() < 0.001
