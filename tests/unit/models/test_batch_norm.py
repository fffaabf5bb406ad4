"""Batch norm over all ranks' samples: the same as one process that has them all."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from eai_notebook.models import SyncBatchNormalization, local_batch_norm, small_resnet

if TYPE_CHECKING:
    from pathlib import Path

RunRanks = Callable[..., list[Any]]

TOGETHER = """
import keras, numpy as np, tensorflow as tf

def batch():
    rng = np.random.default_rng(5)
    # Far apart, so that one rank's statistics are not those of all.
    x = rng.normal(size=(12, 4, 4, 3)) * 2 + np.arange(12).reshape(-1, 1, 1, 1)
    return x.astype("float32"), rng.normal(size=(12, 4, 4, 3)).astype("float32")

def run(layer, x, weights, share, compiled):
    layer.build((None, 4, 4, 3))
    layer.gamma.assign([1.0, 2.0, 3.0])

    def step(x, weights):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=True)
            # A loss that bends: a mean of means would give other gradients.
            loss = tf.reduce_sum(tf.tanh(y) * weights) * share
        return y, tape.gradient(loss, [x, layer.gamma.value, layer.beta.value])

    y, gradients = (tf.function(step) if compiled else step)(tf.constant(x), tf.constant(weights))
    return {
        "y": y.numpy().tolist(), "x": gradients[0].numpy().tolist(),
        "gamma": gradients[1].numpy().tolist(), "beta": gradients[2].numpy().tolist(),
        "mean": np.asarray(layer.moving_mean).tolist(),
        "variance": np.asarray(layer.moving_variance).tolist(),
    }
"""


@pytest.mark.ranks
@pytest.mark.parametrize("cut", [6, 3], ids=["equal batches", "uneven batches"])
def test_two_ranks_compute_what_one_process_does(run_ranks: RunRanks, cut: int) -> None:
    names: dict[str, Any] = {}
    exec(TOGETHER, names)  # noqa: S102 -- the very source that the ranks run
    x, weights = names["batch"]()
    expected = names["run"](keras.layers.BatchNormalization(), x, weights, 1.0, compiled=True)
    reports = run_ranks(
        TOGETHER
        + f"""
from eai_notebook.models import SyncBatchNormalization
from eai_notebook import collective
collective.ensure_formed()
if collective.rank() == 1:
    SyncBatchNormalization()  # so that Keras names the next ones otherwise than on rank 0
x, weights = batch()
mine = slice(0, {cut}) if collective.rank() == 0 else slice({cut}, 12)
report([
    run(SyncBatchNormalization(), x[mine], weights[mine], 1.0, compiled)
    for compiled in (True, False)
])
"""
    )
    for found in zip(*reports, strict=True):  # compiled, then eager
        for part in ("y", "x"):
            joined = np.concatenate([rank[part] for rank in found])
            np.testing.assert_allclose(joined, expected[part], rtol=2e-4, atol=2e-5)
        for part in ("gamma", "beta"):
            total = np.sum([rank[part] for rank in found], axis=0)
            np.testing.assert_allclose(total, expected[part], rtol=2e-4, atol=2e-5)
        for rank in found:
            np.testing.assert_allclose(rank["mean"], expected["mean"], rtol=1e-5)
            np.testing.assert_allclose(rank["variance"], expected["variance"], rtol=1e-4)


@pytest.mark.ranks
@pytest.mark.slow
def test_a_synchronised_model_trains_as_one_process_with_the_global_batch(
    run_ranks: RunRanks,
) -> None:
    source = """
    import keras, numpy as np, tensorflow as tf
    import eai_notebook as eai
    from eai_notebook import collective
    from eai_notebook.datasets.shapes import PlantedPictures

    def train(batch_norm, compiled):
        drawn = PlantedPictures(4, 16).draw(0, 64)
        rank, size = collective.rank(), collective.size()
        # Each global batch of 16, dealt out to the ranks.
        mine = np.arange(64).reshape(4, size, -1)[:, rank].ravel()
        data = tf.data.Dataset.from_tensor_slices((drawn.images[mine], drawn.labels[mine]))
        keras.utils.set_random_seed(1)
        model = eai.models.small_resnet(4, image=(16, 16, 3), width=4, batch_norm=batch_norm)
        model.compile(keras.optimizers.SGD(0.1, momentum=0.9), eai.models.crossentropy(0.1),
                      run_eagerly=not compiled)
        eai.fit(model, data.batch(16 // size), verbose=0)
        return [np.asarray(w).ravel().tolist() for w in model.get_weights()]

    collective.ensure_formed()
    """
    (alone,) = run_ranks(source + 'report({"local": train("local", False)})', 1)
    both = '{"synchronised": train("synchronised", True), "local": train("local", False)}'
    first, second = run_ranks(f"{source}report({both})", 2)

    def apart(one: list[Any], other: list[Any]) -> float:
        return max(float(np.abs(np.subtract(a, b)).max()) for a, b in zip(one, other, strict=True))

    # What rounding makes of four steps; a rank's own statistics are another matter.
    assert apart(first["synchronised"], alone["local"]) < 1e-3
    assert apart(first["synchronised"], second["synchronised"]) == 0
    assert apart(first["local"], alone["local"]) > 1e-2


def test_alone_it_is_the_plain_layer() -> None:
    x = np.random.default_rng(0).normal(3, 2, (16, 5, 5, 4)).astype(np.float32)
    ours, plain = SyncBatchNormalization(), keras.layers.BatchNormalization()
    np.testing.assert_allclose(ours(x, training=True), plain(x, training=True), atol=2e-5)
    np.testing.assert_allclose(ours.moving_variance, plain.moving_variance, rtol=1e-5)
    np.testing.assert_allclose(ours(x, training=False), plain(x, training=False), rtol=1e-5)


def test_half_precision_is_computed_in_single() -> None:
    layer = SyncBatchNormalization(dtype="mixed_float16")
    x = tf.cast(tf.random.stateless_normal((64, 8), (0, 1), 100.0, 30.0), tf.float16)
    y = layer(x, training=True)
    assert y.dtype == tf.float16
    assert np.std(y.numpy().astype(np.float32)) == pytest.approx(1.0, abs=0.02)


def test_a_mask_is_refused() -> None:
    with pytest.raises(RuntimeError, match="masked samples"):
        SyncBatchNormalization()(tf.ones((2, 3, 4)), training=True, mask=tf.ones((2, 3), tf.bool))


def test_local_copy_predicts_the_same_and_needs_nothing_of_ours(tmp_path: Path) -> None:
    model = small_resnet(4, image=(16, 16, 3), width=4, batch_norm="synchronised")
    rng = np.random.default_rng(0)
    model.set_weights([w + rng.random(w.shape, np.float32) for w in model.get_weights()])
    copy = local_batch_norm(model)
    copy.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    packages = {type(layer).__module__.split(".")[0] for layer in loaded.layers}
    assert packages == {"keras"}
    x = rng.integers(0, 255, (8, 16, 16, 3)).astype(np.uint8)
    np.testing.assert_allclose(
        loaded.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-5, atol=1e-5
    )
