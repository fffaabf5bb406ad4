"""`DistributedOptimizer`: what it answers alone, and that N ranks do what one process would."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import pytest

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


def test_n_ranks_make_the_steps_of_one_process(run_ranks: RunRanks) -> None:
    """Every optimizer, and every feature of one, against the plain one on the global batch."""
    reports = run_ranks(
        """
        import copy
        import keras, numpy as np, tensorflow as tf
        import eai_notebook as eai
        from eai_notebook import collective
        collective.ensure_formed()
        rank, size, batch, steps = eai.rank(), eai.size(), 8, 6
        keras.config.disable_traceback_filtering()
        rng = np.random.default_rng(3)
        x = rng.normal(size=(steps, size * batch, 5)).astype("float32")
        ids = rng.integers(0, 12, (steps, size * batch, 2))
        y = rng.normal(size=(steps, size * batch, 1)).astype("float32")
        mine = slice(rank * batch, (rank + 1) * batch)

        def dense(seed):
            keras.utils.set_random_seed(seed)
            return keras.Sequential([keras.Input((5,)), keras.layers.Dense(4, "tanh"),
                                     keras.layers.Dense(1)])

        def embedding(seed):
            keras.utils.set_random_seed(seed)
            return keras.Sequential([keras.Input((2,), dtype="int32"),
                keras.layers.Embedding(12, 3), keras.layers.Flatten(), keras.layers.Dense(1)])

        def train(make, optimizer, part, seed):
            model = make(seed)
            model.compile(optimizer, "mse")
            inputs = ids if make is embedding else x
            data = tf.data.Dataset.from_tensor_slices((inputs[:, part], y[:, part]))
            model.fit(data, verbose=0, shuffle=False)
            return np.concatenate([w.ravel() for w in model.get_weights()])

        def compare(make, optimizer, wrap=eai.DistributedOptimizer, reference=None):
            config = keras.saving.serialize_keras_object(optimizer)
            plain = keras.saving.serialize_keras_object(reference or optimizer)
            again = lambda config: keras.saving.deserialize_keras_object(copy.deepcopy(config))
            # Initial weights differ: rank 0's must count everywhere.
            ours = train(make, wrap(again(config)), mine, seed=rank)
            reference = train(make, again(plain), slice(None), seed=0)
            return float(np.abs(ours - reference).max() / np.abs(reference).max())

        o = keras.optimizers
        every = [o.SGD(0.1), o.SGD(0.1, momentum=0.9, nesterov=True), o.Adam(0.1), o.AdamW(0.1),
                 o.Adamax(0.1), o.Nadam(0.1), o.Ftrl(0.1), o.Adagrad(0.1), o.Adadelta(1.0),
                 o.RMSprop(0.1), o.Lion(0.01), o.Lamb(0.1)]
        featured = {
            "accumulation": o.Adam(0.1, gradient_accumulation_steps=3),
            "accumulated decay": o.SGD(o.schedules.ExponentialDecay(0.1, 2, 0.5),
                                       gradient_accumulation_steps=2, clipnorm=0.5),
            "clipnorm": o.SGD(0.1, clipnorm=0.01),
            "global_clipnorm": o.SGD(0.1, global_clipnorm=0.01),
            "clipvalue": o.SGD(0.1, clipvalue=0.01),
            "ema": o.Adam(0.1, use_ema=True, ema_overwrite_frequency=2),
            "loss_scale": o.LossScaleOptimizer(o.Adam(0.1)),
            "loss_scale accumulated": o.LossScaleOptimizer(o.Adam(0.1, gradient_accumulation_steps=2)),
        }
        rows = lambda inner: eai.DistributedOptimizer(inner, sparse="rows")

        class Dense(keras.optimizers.Adam):
            # Adam that never sees rows: what merged ones must come to.
            def apply(self, grads, trainable_variables=None):
                grads = [None if g is None else tf.convert_to_tensor(g) for g in grads]
                super().apply(grads, trainable_variables)
        keras.saving.register_keras_serializable("test")(Dense)
        report({
            **{type(each).__name__ + str(i): compare(dense, each) for i, each in enumerate(every)},
            **{name: compare(dense, each) for name, each in featured.items()},
            "embedding SGD": compare(embedding, o.SGD(0.1)),
            "embedding Adam": compare(embedding, o.Adam(0.1), rows),
            "embedding dense Adam": compare(embedding, Dense(0.1)),
            "embedding merged Adam": compare(embedding, o.Adam(0.1), reference=Dense(0.1)),
            "embedding accumulated": compare(embedding, o.Adam(0.1, gradient_accumulation_steps=2)),
            "embedding rows SGD": compare(embedding, o.SGD(0.1), rows),
            "control: not distributed": compare(dense, o.SGD(0.1), lambda inner: inner),
        })
        """,
        2,
        timeout=400,
    )
    for differences in reports:
        control = differences.pop("control: not distributed")
        wrong = {name: value for name, value in differences.items() if not value < 2e-6}
        assert not wrong
        assert control > 1e-3
