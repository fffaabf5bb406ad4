"""Which metrics are sums over rows, so that they can be added up over ranks."""

from __future__ import annotations

from typing import Any

import keras
import pytest
from keras import ops

from eai_notebook.train.global_metrics import is_additive


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


@pytest.mark.parametrize("kind", [Counted, Summed, AddedUp, keras.metrics.AUC, keras.metrics.Mean])
def test_a_metric_that_only_adds_is_a_sum(kind: Any) -> None:
    assert is_additive(kind())


@pytest.mark.parametrize("kind", [Largest, Moving, Decayed, FromOne, Unseen])
def test_a_metric_that_does_more_is_not(kind: Any) -> None:
    assert not is_additive(kind())
