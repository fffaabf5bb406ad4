"""`RoutedOptimizer`: each variable is updated by its own optimizer, alone, on ranks, and from disk."""

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


def two_layers() -> keras.Model:
    keras.utils.set_random_seed(4)
    return keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(4, "tanh", name="deep"),
            keras.layers.Dense(1, name="wide"),
        ]
    )


def routed(**settings: Any) -> Any:
    return eai.RoutedOptimizer(
        {"wide/*": keras.optimizers.Ftrl(0.2)}, default=keras.optimizers.Adam(0.01), **settings
    )


def data() -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(32, 3)).astype("float32"), rng.normal(size=(32, 1)).astype("float32")


def weights_after(optimizer: Any, frozen: str | None) -> list[Any]:
    model = two_layers()
    if frozen is not None:
        model.get_layer(frozen).trainable = False
    model.compile(optimizer, "mse")
    x, y = data()
    model.fit(x, y, batch_size=32, epochs=1, verbose=0)
    return [np.asarray(weight) for weight in model.get_weights()]


def test_each_part_makes_the_step_that_its_optimizer_makes_alone() -> None:
    both = weights_after(routed(), None)
    deep = weights_after(keras.optimizers.Adam(0.01), "wide")
    wide = weights_after(keras.optimizers.Ftrl(0.2), "deep")
    for ours, expected in zip(both, [*deep[:2], *wide[2:]], strict=True):
        np.testing.assert_array_equal(ours, expected)
    assert not np.array_equal(deep[2], wide[2])


def test_the_first_pattern_that_matches_counts() -> None:
    optimizer = eai.RoutedOptimizer({"wide/bias": "sgd", "wide/*": "ftrl"}, default="adam")
    model = two_layers()
    optimizer.build(model.trainable_variables)
    names = [type(optimizer.optimizer_of(v)).__name__ for v in model.trainable_variables]
    assert names == ["Adam", "Adam", "Ftrl", "SGD"]


def test_a_pattern_without_a_variable_is_named() -> None:
    optimizer = eai.RoutedOptimizer({"wdie/*": "ftrl"})
    with pytest.raises(EaiError, match=r"no variable matches 'wdie/\*': there are .*deep/kernel, "):
        optimizer.build(two_layers().trainable_variables)


@pytest.mark.parametrize(
    "part",
    [
        keras.optimizers.SGD(0.1, gradient_accumulation_steps=2),
        keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1)),
    ],
)
def test_a_part_that_would_step_at_other_times_is_refused(part: Any) -> None:
    with pytest.raises(EaiError, match="wraps another optimizer or accumulates"):
        eai.RoutedOptimizer({"wide/*": part})


def test_the_learning_rate_is_the_default_optimizers() -> None:
    optimizer = routed()
    assert float(optimizer.learning_rate) == pytest.approx(0.01)
    optimizer.learning_rate = 0.5
    assert [float(part.learning_rate) for part in optimizer.parts] == pytest.approx([0.2, 0.5])


def test_a_saved_model_goes_on_where_it_was(tmp_path: Path) -> None:
    model = two_layers()
    model.compile(eai.DistributedOptimizer(routed()), "mse")
    x, y = data()
    model.fit(x, y, batch_size=32, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert isinstance(again.optimizer.inner_optimizer, eai.RoutedOptimizer)
    for each in (model, again):
        each.fit(x, y, batch_size=32, epochs=2, verbose=0)
    for ours, theirs in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert int(again.optimizer.iterations) == 3


def test_ranks_make_the_steps_of_one_process_and_a_checkpoint_restores_them(
    run_ranks: RunRanks,
) -> None:
    """Wide & Deep with FTRL and Adam: 2 ranks, interrupted after one epoch, against one."""
    reports = run_ranks(
        """
        import keras, numpy as np, tensorflow as tf
        import eai_notebook as eai
        from eai_notebook import collective
        from eai_notebook.clicklog.click_schema import ClickSchema
        collective.ensure_formed()
        rank, size, batch, steps = eai.rank(), eai.size(), 16, 5
        rng = np.random.default_rng(3)
        schema = ClickSchema(name="few", integers=("I1", "I2"), categorical=("C1", "C2", "C3"),
                             buckets=(20, 20, 20), crosses=(("C1", "C2"),))
        numbers = rng.normal(size=(steps, size * batch, 2)).astype("float32")
        ids = rng.integers(0, 20, (steps, size * batch, 3)).astype("int32")
        y = rng.integers(0, 2, (steps, size * batch, 1)).astype("float32")

        class Dense(eai.RoutedOptimizer):
            # Never sees rows: what merged ones must come to.
            def apply(self, grads, trainable_variables=None):
                super().apply([tf.convert_to_tensor(g) for g in grads], trainable_variables)

        def make(seed, kind, wrap):
            keras.utils.set_random_seed(seed)
            model = eai.models.wide_deep(schema, hidden=(8,), cross_buckets=50)
            optimizer = kind({"wide/*": keras.optimizers.Ftrl(0.1)},
                             default=keras.optimizers.Adam(0.01))
            model.compile(wrap(optimizer), "binary_crossentropy", run_eagerly=kind is Dense)
            return model

        def data(part):
            return tf.data.Dataset.from_tensor_slices(
                ({"numbers": numbers[:, part], "ids": ids[:, part]}, y[:, part]))

        def weights(model):
            return np.concatenate([w.ravel() for w in model.get_weights()])

        def apart(a, b):
            return float(np.abs(a - b).max() / np.abs(b).max())

        mine = data(slice(rank * batch, (rank + 1) * batch))
        distributed = eai.DistributedOptimizer
        whole = make(rank, eai.RoutedOptimizer, distributed)
        eai.fit(whole, mine, epochs=2, verbose=0)
        first = make(rank, eai.RoutedOptimizer, distributed)
        eai.fit(first, mine, epochs=1, verbose=0, checkpoint="kept")
        second = make(7, eai.RoutedOptimizer, distributed)
        eai.fit(second, mine, epochs=2, verbose=0, checkpoint="kept")
        alone = make(0, Dense, lambda optimizer: optimizer)
        alone.fit(data(slice(None)), epochs=2, verbose=0, shuffle=False)
        report([apart(weights(whole), weights(alone)), apart(weights(second), weights(whole)),
                apart(weights(first), weights(alone))])
        """,
        2,
    )
    for against_one, resumed, control in reports:
        assert against_one < 1e-5
        assert resumed == 0.0
        assert control > 1e-3
