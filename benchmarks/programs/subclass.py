"""A subclassed model that is not built, with dropout and sample weights."""

import keras
import numpy as np
import tensorflow as tf

RANDOM = True


class Net(keras.Model):
    def __init__(self):
        super().__init__()
        self.first, self.drop = keras.layers.Dense(16, "relu"), keras.layers.Dropout(0.2)
        self.last = keras.layers.Dense(1)

    def call(self, x, training=False):
        return self.last(self.drop(self.first(x), training=training))


rng = np.random.default_rng(0)
x, weight = rng.random((128, 6)).astype("f4"), rng.random(128).astype("f4")
x, weight = x[:], weight[:]  # eai: x, weight = x[eai.rank() :: eai.size()], weight[eai.rank() :: eai.size()]
model = Net()
model.compile("adam", "mse")
history = model.fit(x, x.sum(1, keepdims=True), sample_weight=weight, batch_size=32, epochs=4, verbose=0)  # eai: history = eai.fit(model, (x, x.sum(1, keepdims=True), weight), batch_size=32 // eai.size(), epochs=4, verbose=0)
