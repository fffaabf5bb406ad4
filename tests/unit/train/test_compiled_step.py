"""A remembered graph computes what TensorFlow's own search for it would have found."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from eai_notebook.train.compiled_step import CompiledStep

pytestmark = pytest.mark.slow


def sums() -> tuple[CompiledStep, tf.Variable, list[Any]]:
    """Return a step that adds its batch to a variable, the variable, and what was traced or searched."""
    total, searched = tf.Variable(0.0), []

    def step(source: Any, times: Any = None) -> Any:
        batch = source.get_next() if times is None else source
        (x,) = tf.nest.flatten(batch) if not isinstance(batch, dict) else (batch["x"],)
        total.assign_add(tf.reduce_sum(x))
        return {"total": total.read_value(), "rows": tf.shape(x)[0]}, tf.constant(1.0)

    function: Any = tf.function(step, reduce_retracing=True, autograph=False)

    class Searching:
        def __call__(self, *given: Any) -> Any:
            searched.append(len(given))
            return function(*given)

        def __getattr__(self, name: str) -> Any:
            return getattr(function, name)

    return CompiledStep(Searching()), total, searched


def batches(count: int, rows: int = 3) -> tf.data.Dataset:
    return tf.data.Dataset.range(count * rows).map(lambda i: tf.cast(i, tf.float32)).batch(rows)


def test_an_iterator_is_searched_for_once_and_gives_all_its_batches() -> None:
    step, total, searched = sums()
    for epoch in range(2):
        iterator = iter(batches(4))
        found = [step(iterator)[0] for _ in range(4)]
        assert [float(logs["total"]) for logs in found] == [66 * epoch + s for s in (3, 15, 36, 66)]
        with pytest.raises(tf.errors.OutOfRangeError):
            step(iterator)
    assert len(searched) == 2
    total.assign(0.0)  # variables are used as they are now
    assert float(step(iter(batches(1)))[0]["total"]) == 3.0
    assert step.experimental_get_tracing_count() == 1


def test_an_iterator_is_not_kept() -> None:
    step, _, _ = sums()
    iterator = iter(batches(3))
    step(iterator)
    step(iterator)
    gone = weakref.ref(iterator)
    del iterator
    gc.collect()
    assert gone() is None


def test_batches_of_each_shape_go_to_a_graph_that_fits() -> None:
    step, _, searched = sums()
    times = np.zeros(2)
    found = []
    for rows in (4, 4, 3, 4, 3, 1):
        logs, _ = step((tf.ones([rows, 2]),), times)
        found.append((int(logs["rows"]), float(logs["total"])))
    assert found == [(4, 8.0), (4, 16.0), (3, 22.0), (4, 30.0), (3, 36.0), (1, 38.0)]
    assert len(searched) == 3
    step.forget()  # as for data of another structure
    assert int(step({"x": tf.ones([4, 2])}, times)[0]["rows"]) == 4
    assert (
        int(step((np.ones((4, 2), "f4"),), times)[0]["rows"]) == 4
    )  # no tensor: TensorFlow's turn
    assert len(searched) == 5


def test_functions_that_run_eagerly_do_so_from_the_next_step_on() -> None:
    step, _, searched = sums()
    iterator = iter(batches(4))
    step(iterator)
    step(iterator)
    tf.config.run_functions_eagerly(run_eagerly=True)
    try:
        assert float(step(iterator)[0]["total"]) == 36.0
    finally:
        tf.config.run_functions_eagerly(run_eagerly=False)
    assert len(searched) == 2
