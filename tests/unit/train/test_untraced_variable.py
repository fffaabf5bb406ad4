"""A step is traced once, though it is the first to ask for what is kept beside a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from eai_notebook.train.exchange.wire_state import Wire
from eai_notebook.train.recording import graph_timestamps

if TYPE_CHECKING:
    import pytest


def test_marks_and_the_memory_of_wires_have_no_step_traced_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(graph_timestamps, "_row", None)
    wire = Wire("int8")

    @tf.function(autograph=False)
    def step() -> tf.Tensor:
        graph_timestamps.write(
            [0.0] * graph_timestamps.APPLIED, tf.constant(1.0, tf.float64), [], []
        )
        return wire.variable("scale", np.float32(2)).read_value()

    assert float(step()) == 2.0
    assert step.experimental_get_tracing_count() == 1
    assert float(graph_timestamps.read()[graph_timestamps.APPLIED]) == 1.0
