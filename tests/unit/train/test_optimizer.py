"""`DistributedOptimizer`: what it answers alone, and that N ranks do what one process would."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import pytest
from paths import RANKS

import eai_notebook as eai
from eai_notebook.errors import EaiError

if TYPE_CHECKING:
    from pathlib import Path

RunRanks = Callable[..., list[Any]]


def small_model() -> keras.Model:
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])


def test_it_answers_for_the_inner_optimizer() -> None:
    optimizer = eai.DistributedOptimizer(keras.optimizers.Adam(0.25, beta_1=0.5))
    assert optimizer.beta_1 == 0.5
    optimizer.learning_rate = 0.125
    assert float(optimizer.inner_optimizer.learning_rate) == 0.125
    with pytest.raises(AttributeError, match="no attribute '_nothing'"):
        _ = optimizer._nothing


def test_its_config_makes_it_again() -> None:
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.5)
    optimizer = eai.DistributedOptimizer(
        keras.optimizers.SGD(schedule, momentum=0.9, clipnorm=2.0), sparse="rows", wire="int8"
    )
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(optimizer))
    assert isinstance(again, eai.DistributedOptimizer)
    assert again.get_config() == optimizer.get_config()
    assert again.inner_optimizer.clipnorm == 2.0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"wire": "fp12"}, "unknown wire format 'fp12'"),
        ({"sparse": "dense"}, "sparse='dense' is unknown"),
    ],
)
def test_unknown_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(EaiError, match=message):
        eai.DistributedOptimizer("adam", **settings)


def test_it_is_not_wrapped_twice() -> None:
    with pytest.raises(EaiError, match="wrap it once"):
        eai.DistributedOptimizer(eai.DistributedOptimizer("adam"))


def test_a_saved_model_goes_on_where_it_was(tmp_path: Path) -> None:
    x, y = np.random.default_rng(0).normal(size=(2, 16, 3)).astype("float32")
    model = small_model()
    model.compile(eai.DistributedOptimizer(keras.optimizers.Adam(0.1)), "mse")
    model.fit(x, y[:, :1], verbose=0, shuffle=False)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert isinstance(again.optimizer, eai.DistributedOptimizer)
    for each in (model, again):
        each.fit(x, y[:, :1], verbose=0, shuffle=False)
    for ours, theirs in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert int(again.optimizer.iterations) == 2


CONTROL = "control: not distributed"
SOME = [
    "SGD1",
    "Adam2",
    "accumulated decay",
    "global_clipnorm",
    "loss_scale accumulated",
    "embedding Adam",
    "embedding merged Adam",
    CONTROL,
]


@pytest.mark.parametrize(
    "names", [SOME, pytest.param(None, marks=pytest.mark.drill)], ids=["some", "all"]
)
def test_n_ranks_make_the_steps_of_one_process(
    run_ranks: RunRanks, names: list[str] | None
) -> None:
    """Every optimizer, and every feature of one, against the plain one on the global batch."""
    program = (RANKS / "optimizer_steps.py").read_text()
    for differences in run_ranks(f"NAMES = {names!r}\n{program}", 2):
        control = differences.pop(CONTROL)
        wrong = {name: value for name, value in differences.items() if not value < 2e-6}
        assert not wrong
        assert len(differences) == (26 if names is None else len(names) - 1)
        assert control > 1e-3
