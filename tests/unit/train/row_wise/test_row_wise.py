"""Row-wise updates: Keras's results where they are exact, and nothing but rows where lazy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import optimizers

import eai_notebook as eai
from eai_notebook.errors import EaiError
from eai_notebook.train.row_wise import row_table

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


STEPS = 16
ROWS = 30


def falling() -> Any:
    return optimizers.schedules.CosineDecay(0.05, STEPS)


EXACT: dict[str, Callable[[], Any]] = {
    "sgd": lambda: optimizers.SGD(0.1),
    "nesterov": lambda: optimizers.SGD(falling(), momentum=0.9, nesterov=True, weight_decay=0.02),
    "adagrad-average": lambda: optimizers.Adagrad(0.1, use_ema=True, ema_momentum=0.9),
    "adam": lambda: optimizers.Adam(falling()),
    "adam-large-epsilon": lambda: optimizers.Adam(0.05, epsilon=1e-3, beta_2=0.99),
    "adam-clipped": lambda: optimizers.Adam(0.05, global_clipnorm=0.01),
    "amsgrad": lambda: optimizers.Adam(0.05, amsgrad=True),
    "adamw-average": lambda: optimizers.AdamW(
        falling(), weight_decay=0.1, use_ema=True, ema_momentum=0.95
    ),
    "rmsprop": lambda: optimizers.RMSprop(0.01, momentum=0.8, centered=True),
    "adadelta": lambda: optimizers.Adadelta(1.0),
    "adamax": lambda: optimizers.Adamax(0.05),
    "lion": lambda: optimizers.Lion(0.01),
    "ftrl": lambda: optimizers.Ftrl(falling(), l1_regularization_strength=1e-3, beta=0.1),
    "routed": lambda: eai.RoutedOptimizer({"table": optimizers.Ftrl(0.1)}, optimizers.Adam(0.05)),
    "scaled": lambda: optimizers.LossScaleOptimizer(optimizers.Adam(0.05)),
}
WHOLE: dict[str, Callable[[], Any]] = {
    "nadam": lambda: optimizers.Nadam(0.05),
    "lamb": lambda: optimizers.Lamb(0.05),
    "shrinking-ftrl": lambda: optimizers.Ftrl(0.1, l2_shrinkage_regularization_strength=0.01),
    "accumulating": lambda: optimizers.Adam(0.05, gradient_accumulation_steps=3),
    "overwriting": lambda: optimizers.Adam(0.05, use_ema=True, ema_overwrite_frequency=7),
}


class Training:
    """Some steps of a table and a dense weight, by an optimizer; eager, so that nothing is traced."""

    def __init__(self, make: Callable[[], Any], row_wise: Any, steps: int = STEPS) -> None:
        rng = np.random.default_rng(0)
        self.table = keras.Variable(rng.normal(size=(ROWS, 3)).astype("f4"), name="table")
        self.dense = keras.Variable(rng.normal(size=(3, 1)).astype("f4"), name="dense")
        self.optimizer = eai.DistributedOptimizer(make(), row_wise=row_wise)
        self.optimizer.build([self.table, self.dense])
        # Some rows in nearly every step, some once or never.
        self.ids = np.minimum(rng.pareto(0.7, (steps, 4)) * 3, ROWS - 2).astype("i4")
        for ids in self.ids:
            self.step(ids)

    def step(self, ids: Any) -> None:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((tf.gather(self.table, ids) @ self.dense.value - 1.0) ** 2)
            loss = self.optimizer.scale_loss(loss)
        variables = [self.table, self.dense]
        self.optimizer.apply(tape.gradient(loss, [each.value for each in variables]), variables)

    @property
    def values(self) -> list[Any]:
        own = [self.table, self.dense, *self.optimizer.variables]
        return [np.asarray(each).astype("f8") for each in own]

    @property
    def active(self) -> list[Any]:
        assert self.optimizer.row_tables is not None
        return list(self.optimizer.row_tables.active)


def assert_close(ours: Any, expected: Any, tolerance: float = 1e-6) -> None:
    for found, wanted in zip(ours, expected, strict=True):
        scale = np.max(np.abs(wanted)) + 1e-30
        assert np.max(np.abs(found - wanted)) <= tolerance * scale


@pytest.mark.parametrize("name", EXACT)
def test_exact_gives_kerass_results(name: str) -> None:
    plain, ours = Training(EXACT[name], None), Training(EXACT[name], "exact")
    assert [table.variable for table in ours.active] == [ours.table]
    assert_close(ours.values[:2], plain.values[:2])
    assert_close(ours.values[2:], plain.values[2:], 3e-5)


@pytest.mark.parametrize("name", WHOLE)
def test_what_has_no_closed_form_is_updated_as_a_whole(name: str) -> None:
    plain, ours = Training(WHOLE[name], None), Training(WHOLE[name], "exact")
    assert ours.active == []
    for found, wanted in zip(ours.values, plain.values, strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_lazy_changes_the_rows_with_a_gradient_only() -> None:
    plain, ours = Training(EXACT["adam"], None, 1), Training(EXACT["adam"], "lazy", 1)
    assert_close(ours.values, plain.values)
    before = np.asarray(ours.table)
    ours.step([0, 1])
    changed = np.any(np.asarray(ours.table) != before, axis=1)
    assert np.flatnonzero(changed).tolist() == [0, 1]


def test_all_rows_are_written_when_the_window_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Training(EXACT["adamw-average"], None)
    monkeypatch.setattr(row_table, "WINDOW", 7)
    monkeypatch.setattr(row_table, "_BLOCK", 8)
    ours = Training(EXACT["adamw-average"], "exact")
    assert int(ours.active[0].count) == STEPS % 7
    assert_close(ours.values[:2], plain.values[:2])


def test_an_assignment_replaces_all_and_training_goes_on() -> None:
    plain, ours = Training(EXACT["adam"], None), Training(EXACT["adam"], "exact")
    for each in (plain, ours):
        each.table.assign(np.full((ROWS, 3), 0.5, "f4"))
        for ids in each.ids:
            each.step(ids)
    assert_close(ours.values[:2], plain.values[:2])


def test_a_dense_gradient_changes_all_rows() -> None:
    plain, ours = Training(EXACT["adam"], None), Training(EXACT["adam"], "exact")
    for each in (plain, ours):
        dense = [tf.ones([ROWS, 3]), tf.ones([3, 1])]
        each.optimizer.apply(dense, [each.table, each.dense])
        each.step([1, 2])
    assert_close(ours.values[:2], plain.values[:2])


def test_reading_leaves_no_trace() -> None:
    """Ranks read at different times, and must stay equal bit by bit."""
    reads, other = Training(EXACT["adam"], "exact"), Training(EXACT["adam"], "exact")
    for ids in reads.ids[:5]:
        reads.step(ids)
        _ = reads.values
        tf.gather(reads.table, [0, 5, 9])
        other.step(ids)
    np.testing.assert_array_equal(np.asarray(reads.table), np.asarray(other.table))


def test_a_model_trains_saves_exports_and_goes_on(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = np.minimum(rng.pareto(0.7, (64, 3)) * 3, ROWS - 1).astype("i4")
    y = rng.normal(size=(64, 1)).astype("f4")

    def trained(row_wise: Any, epochs: int) -> keras.Model:
        keras.utils.set_random_seed(1)
        layers = [keras.Input((3,), dtype="int32"), keras.layers.Embedding(ROWS, 4)]
        model = keras.Sequential([*layers, keras.layers.Flatten(), keras.layers.Dense(1)])
        model.compile(eai.DistributedOptimizer(optimizers.Adam(0.05), row_wise=row_wise), "mse")
        if row_wise:
            # Plain `fit` traces the step before the optimizer is built, and ends unsettled.
            model.fit(x, y, batch_size=4, epochs=epochs, shuffle=False, verbose=0)
        else:
            eai.fit(model, x, y, batch_size=4, epochs=epochs, shuffle=False, verbose=0)
        return model

    plain, ours = trained(None, 2), trained("exact", 1)
    assert int(ours.optimizer.row_tables.active[0].count) == 16
    expected = ours.predict(x, verbose=0)
    ours.export(tmp_path / "served", verbose=False)
    served = tf.saved_model.load(str(tmp_path / "served"))
    np.testing.assert_allclose(served.serve(x), expected, rtol=1e-5)
    ours.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert again.optimizer.row_wise == "exact"
    eai.fit(again, x, y, batch_size=4, shuffle=False, verbose=0)
    assert int(again.optimizer.row_tables.active[0].count) == 0
    assert_close(again.get_weights(), plain.get_weights())


def test_settings_that_do_not_fit_are_refused() -> None:
    for settings, code in (
        ({"row_wise": "fast"}, "option-invalid"),
        ({"row_wise": "lazy", "sparse": "rows"}, "options-conflict"),
    ):
        with pytest.raises(EaiError) as raised:
            eai.DistributedOptimizer("adam", **settings)
        assert raised.value.code == code
    with pytest.raises(EaiError) as raised:
        Training(EXACT["adam"], "exact", 1).optimizer.update_by_rows("lazy")
    assert raised.value.code == "options-conflict"
