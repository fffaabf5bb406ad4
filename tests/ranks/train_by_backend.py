"""A small training with dense and sparse gradients, whatever library exchanges them."""

import contextlib
import io
import sys

import keras
import numpy as np

import eai_notebook as eai
from eai_notebook import collective

printed = io.StringIO()
with contextlib.redirect_stderr(printed):
    collective.ensure_formed()
keras.utils.set_random_seed(7)
random = np.random.default_rng(eai.rank())
ids = random.integers(0, 50, (256, 3))
y = (ids.sum(1) % 2).astype("f4")
model = keras.Sequential(
    [
        keras.Input((3,), dtype="int32"),
        keras.layers.Embedding(50, 8),
        keras.layers.Flatten(),
        keras.layers.Dense(64, activation="relu"),
        keras.layers.Dense(1),
    ]
)
model.compile(keras.optimizers.Adam(1e-2), "mse")
history = eai.fit(model, (ids, y), batch_size=32, epochs=2, verbose=0).history
counting = sys.modules.get("counting_collective")
report(  # noqa: F821 -- of the tests' prelude
    {
        "backend": collective.backend_name(),
        "notice": printed.getvalue(),
        "loss": history["loss"],
        "weights": [w.ravel().tolist() for w in model.get_weights()],
        "calls": dict(counting.CountingBackend.calls) if counting else {},
    }
)
