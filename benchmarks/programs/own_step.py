"""A train_step of the model's own, with metrics of its own."""

import keras
import numpy as np
import tensorflow as tf

class Net(keras.Model):
    def __init__(self):
        super().__init__()
        self.inner, self.seen = keras.layers.Dense(1), keras.metrics.Mean(name="error")

    def call(self, x):
        return self.inner(x)

    @property
    def metrics(self):
        return [self.seen]

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((self(x, training=True) - y) ** 2)
        self.optimizer.apply(tape.gradient(loss, self.trainable_variables), self.trainable_variables)
        self.seen.update_state(loss)
        return {"error": self.seen.result()}


x = np.random.default_rng(0).random((128, 6)).astype("f4")
x = x[:]  # eai: x = x[eai.rank() :: eai.size()]
model = Net()
model.compile("adam")
model.fit(x, x.sum(1, keepdims=True), batch_size=32, shuffle=False, verbose=0)  # eai: eai.fit(model, (x, x.sum(1, keepdims=True)), batch_size=32 // eai.size(), shuffle=False, verbose=0)
