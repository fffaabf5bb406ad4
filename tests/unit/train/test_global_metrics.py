"""Which metrics are sums over rows, so that they can be added up over ranks."""

from __future__ import annotations

from typing import Any

import keras
import pytest
from keras import ops

from eai_notebook.train.global_metrics import is_additive, unbuilt


class Kept(keras.metrics.Metric):
    def __init__(self) -> None:
        super().__init__(name="kept")
        self.kept = self.add_weight(name="kept", initializer="zeros")

    def result(self) -> Any:
        return self.kept


class Counted(Kept):
    def update_state(self, y_true: Any, y_pred: Any, *_: Any) -> None:
        self.kept.assign_add(ops.sum(ops.cast(ops.abs(y_true - y_pred) > 0.5, "float32")))


class Summed(Kept):
    def update_state(self, y_true: Any, *_: Any) -> None:
        self.kept.assign(self.kept + ops.sum(y_true))


class AddedUp(Kept):
    def update_state(self, y_true: Any, *_: Any) -> None:
        self.kept.assign(ops.add(self.kept, ops.sum(y_true)))


class Largest(Kept):
    def update_state(self, y_true: Any, *_: Any) -> None:
        self.kept.assign(ops.maximum(self.kept, ops.max(y_true)))


class Moving(Kept):
    def update_state(self, y_true: Any, *_: Any) -> None:
        self.kept.assign_add(0.1 * (ops.mean(y_true) - self.kept))


class Decayed(Kept):
    def update_state(self, y_true: Any, *_: Any) -> None:
        self.kept.assign(0.9 * self.kept + ops.mean(y_true))


class FromOne(Counted):
    def reset_state(self) -> None:
        self.kept.assign(1.0)


class Unseen(Kept):
    def update_state(self, y_true: Any, *_: Any) -> None:
        add(self.kept, y_true)


def add(variable: Any, values: Any) -> None:
    variable.assign_add(ops.sum(values))


class Rooted(keras.metrics.Mean):
    def update_state(self, y_true: Any, *_: Any) -> Any:
        return super().update_state(ops.abs(y_true))

    def result(self) -> Any:
        return ops.sqrt(super().result())


class ByClass(keras.metrics.MeanIoU):
    def update_state(self, y_true: Any, y_pred: Any, *_: Any) -> Any:
        return keras.metrics.MeanIoU.update_state(self, y_true, ops.argmax(y_pred, -1))


class Peak(keras.metrics.Mean):
    def __init__(self) -> None:
        super().__init__()
        self.top = self.add_weight(name="top", initializer="zeros")

    def update_state(self, y_true: Any, *_: Any) -> None:
        self.top.assign(ops.maximum(self.top, ops.max(y_true)))
        super().update_state(y_true)


class NeverReset(keras.metrics.Mean):
    def reset_state(self) -> None:
        pass


@pytest.mark.parametrize("kind", [Rooted, lambda: ByClass(3)])
def test_what_leaves_its_update_to_a_metric_of_keras_is_a_sum(kind: Any) -> None:
    assert is_additive(kind())


def test_the_metrics_of_a_model_that_has_seen_no_batch_are_known() -> None:
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    largest, counted = Largest(), Counted()
    model.compile("sgd", "mse", metrics=["mae", largest], weighted_metrics={"dense": counted})
    assert unbuilt(model) == [largest, counted]


@pytest.mark.parametrize("kind", [Counted, Summed, AddedUp, keras.metrics.AUC, keras.metrics.Mean])
def test_a_metric_that_only_adds_is_a_sum(kind: Any) -> None:
    assert is_additive(kind())


@pytest.mark.parametrize("kind", [Largest, Moving, Decayed, FromOne, Unseen, Peak, NeverReset])
def test_a_metric_that_does_more_is_not(kind: Any) -> None:
    assert not is_additive(kind())
