from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import pytest

from eai_notebook.errors import EaiError
from eai_notebook.io import CRITEO
from eai_notebook.models import auc, deep, logistic_regression, wide_deep

if TYPE_CHECKING:
    from pathlib import Path

SMALL = CRITEO.with_buckets(50)


def features(rows: int, seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {
        "numbers": rng.standard_normal((rows, 13)).astype(np.float32),
        "ids": rng.integers(0, 50, (rows, 26)).astype(np.int32),
    }


def test_it_gives_one_probability_a_row() -> None:
    clicks = wide_deep(SMALL).predict(features(64), verbose=0)
    assert clicks.shape == (64, 1)
    assert np.all((clicks > 0) & (clicks < 1))


def test_weights_are_named_for_the_part_they_belong_to() -> None:
    paths = [weight.path for weight in wide_deep(SMALL, hidden=(8, 4)).trainable_weights]
    assert sorted(paths) == [
        "deep_1/bias",
        "deep_1/kernel",
        "deep_2/bias",
        "deep_2/kernel",
        "deep_logit/bias",
        "deep_logit/kernel",
        "embedding/embeddings",
        "wide/embeddings",
    ]


def test_same_value_in_two_columns_has_two_weights() -> None:
    model = wide_deep(SMALL, crosses=())
    table = model.get_layer("wide")
    weights = np.arange(26 * 50, dtype=np.float32)[:, None]
    table.set_weights([weights])
    wide = keras.Model(model.inputs, table.output)
    ids = np.full((1, 26), 7, np.int32)
    looked_up = wide.predict({"numbers": np.zeros((1, 13), np.float32), "ids": ids}, verbose=0)
    assert looked_up[0, :, 0].tolist() == [50 * column + 7 for column in range(26)]


def fitted_auc(crosses: tuple[tuple[str, str], ...]) -> float:
    """Train the wide part alone on clicks that depend on a combination only."""
    keras.utils.set_random_seed(0)
    x = features(4000)
    x["ids"][:, :2] %= 8
    y = (x["ids"][:, :2].sum(axis=1, keepdims=True) % 2).astype(np.float32)
    model = wide_deep(SMALL, hidden=(1,), crosses=crosses)
    for layer in model.layers:
        layer.trainable = layer.name == "wide"
    model.compile(keras.optimizers.Adam(0.1), "binary_crossentropy")
    seen = {name: part[:3000] for name, part in x.items()}
    held_out = {name: part[3000:] for name, part in x.items()}
    model.fit(seen, y[:3000], epochs=4, batch_size=200, verbose=0)
    return auc(y[3000:], model.predict(held_out, verbose=0))


def test_crosses_remember_combinations_that_single_values_cannot() -> None:
    assert fitted_auc((("C1", "C2"),)) > 0.97
    assert fitted_auc((("C3", "C2"),)) < 0.7


def test_saved_model_loads_in_plain_keras_and_predicts_the_same(tmp_path: Path) -> None:
    model = wide_deep(SMALL)
    path = tmp_path / "model.keras"
    model.save(path)
    loaded = keras.models.load_model(path)  # no custom object is needed
    x = features(32)
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))


def test_schema_default_crosses_are_used() -> None:
    plain = wide_deep(SMALL, crosses=()).get_layer("wide").input_dim
    crossed = wide_deep(SMALL).get_layer("wide").input_dim
    assert plain == 26 * 50
    assert crossed == plain + 10_000 * len(CRITEO.crosses)


@pytest.mark.parametrize(
    "options",
    [{"crosses": [("C1", "C99")]}, {"embedding_dim": 0}, {"hidden": (8, 0)}],
)
def test_wrong_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(EaiError):
        wide_deep(SMALL, **options)


def test_auc_is_the_chance_of_ranking_a_pair_right() -> None:
    rng = np.random.default_rng(0)
    labels, scores = rng.integers(0, 2, 200), rng.integers(0, 20, 200)  # with ties
    clicked, other = scores[labels == 1], scores[labels == 0]
    pairs = clicked[:, None] - other[None, :]
    assert auc(labels, scores) == pytest.approx(np.mean((pairs > 0) + 0.5 * (pairs == 0)))


def test_auc_of_one_kind_only_is_an_error() -> None:
    with pytest.raises(EaiError, match="all labels are equal"):
        auc([1, 1], [0.2, 0.4])
    with pytest.raises(EaiError, match="2 labels and 3 scores"):
        auc([0, 1], [0.2, 0.4, 0.1])


def test_the_deep_model_is_the_deep_part_of_wide_deep() -> None:
    whole, part = wide_deep(SMALL), deep(SMALL)
    x = features(16)
    for layer in part.layers:
        layer.set_weights(whole.get_layer(layer.name).get_weights() if layer.weights else [])
    # The wide weights of a new model are zero.
    np.testing.assert_allclose(part.predict(x, verbose=0), whole.predict(x, verbose=0), rtol=1e-5)


def test_logistic_regression_is_linear_in_ids_and_numbers() -> None:
    model = logistic_regression(SMALL, crosses=())
    rng = np.random.default_rng(0)
    wide = rng.normal(size=(26 * 50, 1)).astype("float32")
    line, bias = rng.normal(size=(13, 1)).astype("float32"), np.array([0.5], "float32")
    model.get_layer("wide").set_weights([wide])
    model.get_layer("line").set_weights([line, bias])
    x = features(16)
    logit = wide[x["ids"] + 50 * np.arange(26)].sum(axis=1) + x["numbers"] @ line + bias
    np.testing.assert_allclose(model.predict(x, verbose=0), 1 / (1 + np.exp(-logit)), rtol=1e-4)


def test_more_buckets_keep_more_combinations_apart() -> None:
    model = logistic_regression(SMALL, crosses=[("C1", "C2")], cross_buckets=77)
    assert model.get_layer("wide").input_dim == 26 * 50 + 77
    with pytest.raises(EaiError, match="cross_buckets is 0"):
        logistic_regression(SMALL, cross_buckets=0)
