"""Losses and metrics of image models."""

from __future__ import annotations

from typing import TYPE_CHECKING

import keras
import numpy as np
import pytest

from eai_notebook.errors import EaiError
from eai_notebook.models import accuracies, crossentropy, small_resnet

if TYPE_CHECKING:
    from pathlib import Path

LOGITS = np.random.default_rng(0).normal(size=(16, 8)).astype(np.float32)
LABELS = np.arange(16) % 8


def by_hand(smoothing: float) -> float:
    target = np.eye(8)[LABELS] * (1 - smoothing) + smoothing / 8
    log_softmax = LOGITS - np.log(np.exp(LOGITS).sum(axis=1, keepdims=True))
    return float(-(target * log_softmax).sum(axis=1).mean())


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_loss_is_the_cross_entropy_of_smoothed_labels(smoothing: float) -> None:
    loss = crossentropy(smoothing)
    assert float(loss(LABELS, LOGITS)) == pytest.approx(by_hand(smoothing), rel=1e-5)
    column = LABELS[:, None]  # as `eai.io` may give them
    assert float(loss(column, LOGITS)) == pytest.approx(by_hand(smoothing), rel=1e-5)


@pytest.mark.parametrize("smoothing", [1.0, -0.1])
def test_a_share_that_is_none_is_refused(smoothing: float) -> None:
    with pytest.raises(EaiError, match="label_smoothing"):
        crossentropy(smoothing)


def test_top_k_counts_labels_among_the_first_k_guesses() -> None:
    order = np.argsort(-LOGITS, axis=1)
    for k, metric in zip((1, 5), accuracies(), strict=True):
        metric.update_state(LABELS, LOGITS)
        expected = np.mean([label in row[:k] for label, row in zip(LABELS, order, strict=True)])
        assert float(metric.result()) == pytest.approx(expected)
    with pytest.raises(EaiError, match="top"):
        accuracies([0])


def test_a_compiled_model_is_saved_with_its_loss(tmp_path: Path) -> None:
    model = small_resnet(8, image=(8, 8, 3), width=2)
    model.compile("sgd", crossentropy(0.2), metrics=accuracies())
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.loss.label_smoothing == pytest.approx(0.2)
