"""What a step of the user's own returns, with and without another key, and validation."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

import eai_notebook as eai
from eai_notebook import collective

collective.ensure_formed()
rank = eai.rank()


class Own(keras.Model):
    def __init__(self, more: bool) -> None:
        super().__init__()
        self.inner, self.more = keras.layers.Dense(1, "relu", kernel_initializer="ones"), more

    def call(self, inputs: Any) -> Any:
        return self.inner(inputs)

    def train_step(self, data: Any) -> Any:
        with tf.GradientTape() as tape:
            values = self.test_step(data)
        weights = self.trainable_variables
        gradients = tape.gradient(values["loss"], weights)
        self.optimizer.apply_gradients(zip(gradients, weights, strict=True))
        return values

    def test_step(self, data: Any) -> Any:
        inputs, targets = data
        loss = tf.reduce_mean((self(inputs) - targets) ** 2)
        return {"loss": loss, "twice": 2 * loss} if self.more else {"loss": loss}


class Seen(keras.callbacks.Callback):
    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        seen.append(dict(logs))


x = np.full((16, 3), 1.0 + rank, "f4")
y = np.full((16, 1), 5.0, "f4")
found: dict[str, Any] = {}
seen: list[Any] = []
for more in (True, False):
    for how in ("eai.fit", "callbacks"):
        for name, validation in (("alone", None), ("validated", (x, y))):
            model = Own(more)
            # Steps that change nothing: every loss is known.
            sgd = keras.optimizers.SGD(0.0)
            model.compile(sgd if how == "eai.fit" else eai.DistributedOptimizer(sgd))
            stop = keras.callbacks.EarlyStopping("loss", patience=0)
            settings: dict[str, Any] = {"batch_size": 8, "epochs": 5, "verbose": 0}
            if how == "eai.fit":
                mine: Any = [stop, Seen()]
                history = eai.fit(
                    model, (x, y), validation_data=validation, callbacks=mine, **settings
                )
            else:
                mine = eai.callbacks(stop, Seen())
                history = model.fit(x, y, validation_data=validation, callbacks=mine, **settings)
            found[f"{more} {how} {name}"] = history.history
report({"found": found, "seen": seen})  # type: ignore[name-defined]  # noqa: F821
