"""Learning-rate schedules: the parsed rates are used in training, also after loading."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import pytest

import eai_notebook as eai
from eai_notebook.errors import EaiError

if TYPE_CHECKING:
    from pathlib import Path

TEXT = "0.1;5;3.2;30;0.32;60;0.032;80;0.0032"


def rates(schedule: Any, steps: list[int]) -> list[float]:
    return [float(schedule(step)) for step in steps]


def test_the_warm_up_rises_with_each_step() -> None:
    schedule = eai.schedules.parse(TEXT, steps_per_epoch=20)
    ramp = np.array(rates(schedule, list(range(101))))
    np.testing.assert_allclose(ramp, np.linspace(0.1, 3.2, 101), rtol=1e-6)


def test_the_rate_falls_exactly_when_an_epoch_is_over() -> None:
    schedule = eai.schedules.parse(TEXT, steps_per_epoch=7)
    steps = [209, 210, 419, 420, 559, 560, 10_000]
    expected = [3.2, 0.32, 0.32, 0.032, 0.032, 0.0032, 0.0032]
    assert rates(schedule, steps) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0.5", [0.5, 0.5]), ("9;0;0.5;0.1;0.25", [0.5, 0.25]), (" 1 ; 0.1 ; 2 ", [1.0, 2.0])],
)
def test_short_forms(text: str, expected: list[float]) -> None:
    assert rates(eai.schedules.parse(text, steps_per_epoch=10), [0, 1]) == expected


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("0.1;five;3.2", r"item 2 of schedule .*'five', is no epoch of 0 or more: write rate;"),
        ("0.1;5;-3", r"item 3 .*'-3', is no rate"),
        ("0.1;5;nan", r"item 3 .*'nan', is no rate"),
        ("", r"item 1 .*'', is no rate"),
        ("0.1;5", r"ends with epoch '5' and no rate after it"),
        ("0.1;5;3.2;5;0.3", r"item 4 .*epoch 5, does not come after epoch 5: .* rising order"),
    ],
)
def test_a_bad_item_is_named(text: str, complaint: str) -> None:
    with pytest.raises(EaiError, match=complaint):
        eai.schedules.parse(text, steps_per_epoch=10)


def test_it_counts_an_optimizers_updates_and_is_saved_with_the_model(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    schedule = eai.schedules.parse("0;1;0.4;2;0.1", steps_per_epoch=4)
    model.compile(eai.DistributedOptimizer(keras.optimizers.SGD(schedule)), "mse")
    x = np.ones((12, 1), "float32")
    model.fit(x, x, batch_size=4, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert float(again.optimizer.learning_rate) == pytest.approx(0.3)
    loaded = again.optimizer.inner_optimizer._learning_rate
    assert loaded.get_config() == schedule.get_config()


def test_cosine_begins_peaks_and_ends_where_it_is_set() -> None:
    schedule = eai.schedules.cosine(
        2.0, epochs=10, steps_per_epoch=10, warmup_epochs=2, initial=0.5, final=0.1
    )
    expected = [0.5, 1.25, 2.0, 1.05, 0.1, 0.1]
    assert rates(schedule, [0, 10, 20, 60, 100, 500]) == pytest.approx(expected)
    flat = eai.schedules.cosine(2.0, epochs=4, steps_per_epoch=10, warmup_epochs=0)
    assert rates(flat, [0, 20, 40]) == pytest.approx([2.0, 1.0, 0.0], abs=1e-6)
    with pytest.raises(EaiError, match="a warm-up of 5 epochs does not fit into 5"):
        eai.schedules.cosine(2.0, epochs=5, steps_per_epoch=10)


def test_batches_without_samples_are_refused() -> None:
    assert eai.schedules.scale_linearly(0.1, 512, reference_batch=128) == pytest.approx(0.4)
    with pytest.raises(EaiError, match="global_batch is 0"):
        eai.schedules.scale_linearly(0.1, 0)
    with pytest.raises(EaiError, match="100 samples do not fill one step of 128"):
        eai.schedules.steps_per_epoch(100, 128)
    with pytest.raises(EaiError, match="steps_per_epoch is 0"):
        eai.schedules.parse("0.1", steps_per_epoch=0)


def test_naming_the_room_loads_no_tensorflow() -> None:
    code = (
        "import sys, eai_notebook as eai; eai.schedules.scale_linearly(0.1, 512); "
        "sys.exit('keras' in sys.modules or 'tensorflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
