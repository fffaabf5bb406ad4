"""A model with large gradients and little computation: 16 equal layers."""

from __future__ import annotations

LAYERS = 16


def source(width: int) -> str:
    """Return a cell that makes ``model``, compiled, and endless ``data`` on every rank.

    Each of the 16 gradients has ``4 * width**2`` bytes.
    """
    return f"""
import time, keras, numpy as np, tensorflow as tf
import eai_notebook as eai
keras.utils.set_random_seed(1)
model = keras.Sequential([keras.Input(({width},))] + [
    keras.layers.Dense({width}, use_bias=False, name=f"layer_{{i}}") for i in range({LAYERS})])
model.compile(eai.DistributedOptimizer(keras.optimizers.SGD(1e-3)), "mse")
rng = np.random.default_rng(eai.rank())
batch = (tf.constant(rng.normal(size=(4, {width})).astype("f4")), tf.zeros((4, {width})))
data = tf.data.Dataset.from_tensors(batch).repeat()
"""


def gradient_bytes(width: int) -> int:
    """Return the bytes of all gradients of one step."""
    return LAYERS * 4 * width * width
