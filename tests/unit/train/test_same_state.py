"""Ranks differ where they should (dropout masks), and nowhere else; exchanges that do not happen."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import pytest
from expected_errors import raises_code
from paths import RANKS

from eai_notebook import Session, io
from eai_notebook.errors import EaiError
from eai_notebook.io.pipeline.open_batches import check_options
from eai_notebook.session import RankError
from eai_notebook.session.observer import Watcher
from eai_notebook.train import lone_fits

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import PreloadedRanks

RunRanks = Callable[..., list[Any]]
MODEL = """
import keras, numpy as np, eai_notebook as eai
def make(optimizer):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(optimizer, "mse")
    return model
x, y = np.ones((8, 2), "f4"), np.ones((8, 1), "f4")
"""
LOOP = """
import tensorflow as tf
def loop(optimizer, average=lambda gradients, variables: gradients, wrap=lambda f: f, seed=1):
    keras.utils.set_random_seed(seed)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    variables = model.trainable_variables
    @wrap
    def step(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((model(x) - 3.0) ** 2)
        gradients = average(tape.gradient(loss, variables), variables)
        if optimizer is None:
            for variable, gradient in zip(variables, gradients):
                variable.assign_sub(0.1 * gradient)
        else:
            optimizer.apply(gradients, variables)
    for _ in range(2):
        step(x * (1.0 + eai.rank()))
    return step
def by_hand(gradients, variables):
    return [eai.collective.allreduce(g, f"mine.{i}") for i, g in enumerate(gradients)]
"""


def test_masks_differ_weights_do_not_and_what_is_not_exchanged_is_named(
    run_ranks: RunRanks,
) -> None:
    first, second = run_ranks((RANKS / "same_state.py").read_text(), 2)
    assert first["initial"] == second["initial"]
    assert first["masks"] != second["masks"]
    assert first["dropout"] != second["dropout"]
    for found in (first, second):
        assert found["batch_norm"] < 1e-5
        assert "exchanges no gradients" in found["own"]
        assert found["steps"] == 1


class Heard(Watcher):
    """Keeps what is shown."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def text(self, stream: str, text: str) -> None:  # noqa: ARG002
        self.texts.append(text)


@pytest.mark.ranks
@pytest.mark.slow
def test_separate_models_are_named_after_the_cell(preloaded_ranks: PreloadedRanks) -> None:
    heard = Heard()
    with preloaded_ranks(), Session(2, watcher=heard) as session:
        session.run(MODEL)
        said = {}
        for name, line in {
            "plain": "make('sgd').fit(x, y, verbose=0)",
            "eai.fit": "eai.fit(make('sgd'), x * (1 + eai.rank()), y, verbose=0)",
            "callbacks": "make(eai.DistributedOptimizer('sgd'))"
            ".fit(x, y, verbose=0, callbacks=eai.callbacks())",
            "one rank": "if eai.rank() == 0:\n    make('sgd').fit(x, y, verbose=0)",
        }.items():
            heard.texts.clear()
            session.run(line)
            said[name] = "".join(heard.texts)
        session.run(LOOP)
        with pytest.raises(RankError):  # a fit that does not come to its end
            session.run("make('sgd').fit(x, np.ones((8, 3, 4)), verbose=0)")
        loops = {}
        for name, line in {
            "eager": "loop(keras.optimizers.SGD())",
            "compiled": "step = loop(keras.optimizers.Adam(), wrap=tf.function)",
            "compiled before": "step(x * (1.0 + eai.rank()))",
            "without an optimizer": "loop(None)",
            "on batches": "make('sgd').train_on_batch(x * (1.0 + eai.rank()), y)",
            "wrapped": "loop(eai.DistributedOptimizer('sgd'))",
            "averaged": "loop(keras.optimizers.SGD(), eai.allreduce_gradients, tf.function)",
            "other weights": "loop(eai.DistributedOptimizer('sgd'), seed=eai.rank())",
            "other weights, averaged": "loop(keras.optimizers.SGD(), eai.allreduce_gradients, "
            "seed=eai.rank())",
            "other weights, compiled": "loop(eai.DistributedOptimizer('sgd'), wrap=tf.function, "
            "seed=eai.rank())",
            "averaged by hand": "loop(None, by_hand)",
            "one rank": "if eai.rank() == 0:\n    loop(None)",
        }.items():
            heard.texts.clear()
            session.run(line + "\nNone")
            loops[name] = "".join(heard.texts)
    assert said["plain"].count("2 separate models") == 1
    assert "eai.fit(model, ...)" in said["plain"]
    assert not any("separate models" in said[name] for name in said if name != "plain")

    apart = {name for name in loops if "a model of its own" in loops[name]}
    assert apart == {"eager", "compiled", "compiled before", "without an optimizer", "on batches"}
    assert all(loops[name].count("eai.DistributedOptimizer") == 1 for name in apart)
    late = {name for name in loops if loops[name].count("began this loop with different") == 1}
    assert late == {"other weights", "other weights, averaged"}
    assert not any(loops[name] for name in loops if name not in apart | late)


def test_a_fit_that_exchanges_is_noted_by_its_model() -> None:
    one, other = keras.Sequential(), keras.Sequential()
    lone_fits.began(one)
    lone_fits.note_exchange()
    lone_fits.ended()
    lone_fits.note_exchange()
    assert lone_fits.exchanges(one)
    assert not lone_fits.exchanges(other)


def test_padding_without_a_label_has_no_place_for_weights(tmp_path: Path) -> None:
    parquet, arrow = pytest.importorskip("pyarrow.parquet"), pytest.importorskip("pyarrow")
    file = tmp_path / "rows.parquet"
    parquet.write_table(arrow.table({"x": np.arange(10), "label": np.arange(10) % 2}), file)
    with pytest.raises(EaiError, match="without a label"):
        io.parquet(str(file), 4, columns=["x"], uneven="pad")
    batches = io.parquet(str(file), 4, label="label", uneven="pad", shuffle=False)
    assert sum(float(weights.numpy().sum()) for _, _, weights in batches) == 10


@pytest.mark.parametrize("size", [2.0, "2", 0, None])
def test_a_batch_size_is_a_whole_number(size: Any) -> None:
    with raises_code("option-invalid", "batch_size"):
        check_options(size)
