"""`eai.fit` takes what `model.fit` takes; rows that all ranks have are named, or count once."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from paths import RANKS

import eai_notebook as eai
from eai_notebook.errors import EaiError

RunRanks = Callable[..., list[Any]]
X = np.random.default_rng(0).normal(size=(60, 3)).astype("float32")
Y = X[:, :1] * 2


class Lines(keras.utils.PyDataset):
    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Any:
        return X[15 * index : 15 * index + 15], Y[15 * index : 15 * index + 15]


def make() -> keras.Model:
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2), keras.layers.Dense(1)])
    model.compile("adam", "mse", metrics=["mae"])
    return model


@pytest.mark.parametrize(
    ("given", "settings"),
    [
        ((X, Y), {}),
        ((X, Y, 16, 2), {}),
        ((), {"x": X, "y": Y, "epochs": 2, "initial_epoch": 1}),
        ((X, Y), {"validation_split": 0.25, "batch_size": 10}),
        ((X, Y), {"validation_data": (X[:7], Y[:7]), "validation_batch_size": 3}),
        ((X, Y), {"sample_weight": X[:, 0] ** 2, "shuffle": False}),
        ((X, Y), {"steps_per_epoch": 2, "batch_size": 20}),
        ((tf.data.Dataset.from_tensor_slices((X, Y)).batch(9),), {"shuffle": False}),
        ((Lines(),), {"epochs": 2}),
    ],
)
def test_one_process_computes_what_keras_does(given: Any, settings: dict[str, Any]) -> None:
    ours, plain = make(), make()
    keras.utils.set_random_seed(2)
    one = eai.fit(ours, *given, verbose=0, **settings).history
    keras.utils.set_random_seed(2)
    other = plain.fit(*given, verbose=0, **settings).history
    assert one.keys() == other.keys()
    for name, values in other.items():
        assert one[name] == pytest.approx(values, rel=1e-6)
    for mine, its in zip(ours.get_weights(), plain.get_weights(), strict=True):
        assert np.allclose(mine, its, rtol=1e-6)


def test_averages_below_a_loss_scale_are_swapped_as_keras_does() -> None:
    keras.config.set_dtype_policy("mixed_float16")
    try:
        results = []
        for fit in (eai.fit, keras.Model.fit):
            keras.utils.set_random_seed(1)
            model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
            averaged = keras.optimizers.Adam(0.1, use_ema=True, ema_momentum=0.5)
            model.compile(averaged, "mse")
            swap = keras.callbacks.SwapEMAWeights(swap_on_epoch=True)
            held = {"validation_data": (X, Y), "callbacks": [swap]}
            history = fit(model, X, Y, epochs=2, shuffle=False, verbose=0, **held).history
            results.append((history, [each.tolist() for each in model.get_weights()]))
    finally:
        keras.config.set_dtype_policy("float32")
    assert results[0] == results[1]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda m: eai.fit(m, [X, Y]), r"eai\.fit\(model, x, y\)"),
        (eai.fit, "without data"),
        (lambda m: eai.fit(m, X, data=X), "given twice"),
        (lambda m: eai.fit(m, X, Y, batch_size=2.0), "batch_size is 2.0"),
        (lambda m: eai.fit(m, X, Y, batch_size=0), "batch_size is 0"),
        (lambda m: eai.fit(m, X, Y, epochs="3"), "epochs is '3'"),
        (lambda m: eai.fit(m, (X, Y, X, Y)), "4 arrays"),
        (lambda m: eai.evaluate(m, X, Y, batch_size=1.5), "batch_size is 1.5"),
        (lambda m: eai.predict(m, None), "without data"),
    ],
)
def test_what_cannot_be_meant_is_refused(call: Any, said: str) -> None:
    with pytest.raises(EaiError, match=said):
        call(make())


def no_row(x: Any) -> Any:
    if x[0, 0] > -9:
        raise OSError("row 7 is damaged")
    return x


def endless() -> Any:
    yield X[:8], Y[:8]
    raise KeyError("gone")


SPEC = (tf.TensorSpec((8, 3)), tf.TensorSpec((8, 1)))
DAMAGED = [
    tf.data.Dataset.from_tensor_slices((X, Y))
    .batch(10)
    .map(lambda x, y: (tf.ensure_shape(tf.numpy_function(no_row, [x], tf.float32), (10, 3)), y)),
    tf.data.Dataset.from_generator(endless, output_signature=SPEC).repeat(),
]


@pytest.mark.parametrize("callbacks", [False, True])
@pytest.mark.parametrize(
    ("data", "said"),
    [
        (DAMAGED[0], r"no_row\(\) raised OSError: row 7 is damaged \(line \d+: `raise OSError"),
        (DAMAGED[1], r"endless\(\) raised KeyError: 'gone' \(line \d+"),
    ],
)
def test_an_error_of_a_function_in_the_data_is_said_first(
    data: Any, said: str, *, callbacks: bool
) -> None:
    model = make()
    how: Any = {"steps_per_epoch": 9, "shuffle": False, "verbose": 0}
    fit = partial(model.fit, callbacks=eai.callbacks()) if callbacks else partial(eai.fit, model)
    with pytest.raises(EaiError, match=said) as caught:
        fit(data, **how)
    assert caught.value.code == "data-function-failed"


KINDS = ("arrays", "list", "flow", "py_dataset", "few", "shuffled", "generated")
APART = {"parts", "sharded flow", "own flow", "generator"}
"""The ways to give each rank rows of its own."""


@pytest.mark.parametrize(
    ("kinds", "ways"),
    [
        (("arrays", "flow", "few"), ["positional", "data", "split", "epochs", "parts", "own flow"]),
        pytest.param(KINDS, None, marks=pytest.mark.drill),
    ],
    ids=["some", "all"],
)
def test_rows_of_all_ranks_count_once_and_same_rows_are_named(
    run_ranks: RunRanks, kinds: tuple[str, ...], ways: list[str] | None
) -> None:
    program = (RANKS / "fit_like_keras.py").read_text()
    reports = run_ranks(f"KINDS, WAYS = {kinds!r}, {ways!r}\n{program}", 2)
    first, second = reports
    for kind in kinds:
        one, fitted, evaluated = first[kind]
        assert fitted == pytest.approx(one, rel=1e-4), kind
        assert evaluated == pytest.approx(one, rel=1e-4), kind
        assert second[kind][1:] == first[kind][1:]
    for found in reports:
        assert found["own"][1] == pytest.approx(found["own"][0], rel=1e-4)
        assert found["user"][1] == pytest.approx(found["user"][0], rel=1e-4)
        assert found["as_list"] == 3
        assert max(found["predict"]) < 1e-6
        assert found["texts"] == ["a", "bb", "ccc", "a", "bb", "ccc", "a"]
        once, *trained = found["once"]
        assert trained == [pytest.approx(once, rel=1e-4)] * 2
        assert found["short"] == {"dataset": 2, "arrays": 2, "py_dataset": 2}
        assert "rank 1 has no rows, rank 0 has 64" in found["empty"]
        assert "batch_size is 2.0" in found["float"]
    assert "79 of 101 are left out of each epoch" in first["uneven"]
    epochs = {way: count for way, (count, _) in first["ways"].items()}
    assert epochs == dict.fromkeys(epochs, 2)
    assert len(epochs) == (12 if ways is None else len(ways))
    assert {way for way, (_, said) in first["ways"].items() if not said} == APART & set(epochs)
    assert not any(said for _, said in second["ways"].values())
    assert first["callbacks"] == [True, False]
