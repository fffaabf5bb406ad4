"""A subclassed model with lists and dicts of layers, and a loss and a weight for each head."""

import keras
import numpy as np


class Heads(keras.Model):
    def __init__(self):
        super().__init__()
        self.blocks = [keras.layers.Dense(6, "relu") for _ in range(2)]
        self.heads = {"price": keras.layers.Dense(1), "kind": keras.layers.Dense(2)}

    def call(self, inputs):
        for block in self.blocks:
            inputs = block(inputs)
        return {name: head(inputs) for name, head in self.heads.items()}


x = np.random.default_rng(0).random((128, 6)).astype("f4")
x = x[:]  # eai: x = x[eai.rank() :: eai.size()]
targets = {"price": x.sum(1, keepdims=True), "kind": x[:, :2]}
model = Heads()
model.compile("sgd", {"price": "mse", "kind": "mae"}, loss_weights={"price": 1.0, "kind": 0.3}, metrics={"price": ["mae"]})
model.fit(x, targets, batch_size=32, epochs=2, shuffle=False, verbose=0)  # eai: eai.fit(model, x, targets, batch_size=32 // eai.size(), epochs=2, shuffle=False, verbose=0)
