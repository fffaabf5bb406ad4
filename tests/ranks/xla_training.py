"""Trainings that are to be compiled by XLA: `WAYS` among fit, callbacks, loop, and plain Keras.

For each, with `jit_compile` as in `SETTINGS`, True, "auto" (which is on where there are GPUs) or False: the
weights, and how many matrix products XLA has compiled.
"""

import os
import pathlib
import sys
import tempfile
from typing import Any

DUMP = pathlib.Path(tempfile.mkdtemp())
os.environ["XLA_FLAGS"] = f"--xla_dump_to={DUMP} --xla_dump_hlo_as_text"

import keras  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

import eai_notebook as eai  # noqa: E402
from eai_notebook import collective  # noqa: E402

collective.ensure_formed()
keras.Model._resolve_auto_jit_compile = lambda _: True
random = np.random.default_rng(eai.rank())
x = random.normal(size=(64, 8)).astype("f4")
y = x.sum(1, keepdims=True)
ids = random.integers(0, 40, (64, 3))


def made(jit: Any) -> keras.Model:
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((8,)),
            keras.layers.Dense(16, activation="tanh"),
            keras.layers.Dense(1),
        ]
    )
    optimizer = eai.DistributedOptimizer(keras.optimizers.Adam(1e-2))
    model.compile(optimizer, "mse", metrics=["mae"], jit_compile=jit)
    return model


def by_fit(model: keras.Model) -> None:
    eai.fit(model, (x, y), batch_size=16, epochs=2, shuffle=False, verbose=0)


def by_callbacks(model: keras.Model) -> None:
    given = {"batch_size": 16, "epochs": 2, "shuffle": False, "verbose": 0}
    model.fit(x, y, callbacks=eai.callbacks(), **given)


def by_keras(model: keras.Model) -> None:
    model.fit(x, y, batch_size=16, epochs=2, shuffle=False, verbose=0)


def by_loop(model: keras.Model) -> None:
    optimizer = model.optimizer

    @tf.function(jit_compile=bool(model.jit_compile), autograph=False)
    def train(rows: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((model(rows, training=True) - targets) ** 2)
        weights = model.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
        return loss

    for _ in range(2):
        for first in range(0, 64, 16):
            with eai.step(16):
                train(tf.constant(x[first : first + 16]), tf.constant(y[first : first + 16]))


def by_gradients(model: keras.Model) -> None:
    """A loop that averages gradients and updates by itself."""
    optimizer = keras.optimizers.Adam(1e-2)
    optimizer.build(model.trainable_variables)

    @tf.function(jit_compile=bool(model.jit_compile), autograph=False)
    def train(rows: tf.Tensor, targets: tf.Tensor) -> None:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((model(rows, training=True) - targets) ** 2)
        weights = model.trainable_variables
        gradients = eai.allreduce_gradients(tape.gradient(loss, weights), weights)
        optimizer.apply_gradients(zip(gradients, weights, strict=True))

    for _ in range(2):
        for first in range(0, 64, 16):
            with eai.step(16):
                train(tf.constant(x[first : first + 16]), tf.constant(y[first : first + 16]))


def products() -> int:
    """Return how many matrix products XLA has been given since the last call."""
    count = 0
    for file in DUMP.glob("*before_optimizations.txt"):
        count += file.read_text().count(" dot(")
        file.unlink()
    return count


def trained(how: Any, jit: Any) -> dict[str, Any]:
    model = made(jit)
    products()
    how(model)
    weights = [weight.ravel().tolist() for weight in model.get_weights()]
    return {"weights": weights, "products": products()}


found = {}
for way in (by_fit, by_callbacks, by_keras, by_loop, by_gradients):
    if way.__name__ not in WAYS:  # noqa: F821 -- of the test
        continue
    for setting in SETTINGS:  # noqa: F821 -- of the test
        found[f"{way.__name__} {setting}"] = trained(way, setting)
        sys.stderr.write(
            f"{way.__name__} {setting} {found[f'{way.__name__} {setting}']['products']}\n"
        )


def sparse() -> list[float]:
    """Embeddings, whose exchange has shapes that XLA cannot know, and gradient accumulation."""
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((3,), dtype="int32"),
            keras.layers.Embedding(40, 4),
            keras.layers.Flatten(),
            keras.layers.Dense(1),
        ]
    )
    adam = keras.optimizers.Adam(1e-2, gradient_accumulation_steps=2)
    model.compile(adam, "mse", jit_compile=True)
    eai.fit(model, (ids, y), batch_size=16, epochs=2, shuffle=False, verbose=0)
    return [float(np.abs(weight).sum()) for weight in model.get_weights()]


report({"found": found, "sparse": sparse()})  # noqa: F821 -- of the tests' prelude
