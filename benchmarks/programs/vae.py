"""A variational autoencoder: its own step, no call."""

import keras
import numpy as np
import tensorflow as tf

RANDOM = True


class Vae(keras.Model):
    def __init__(self):
        super().__init__()
        self.encoder = keras.Sequential([keras.Input((16,)), keras.layers.Dense(8)])
        self.decoder = keras.Sequential([keras.Input((4,)), keras.layers.Dense(16)])
        self.total = keras.metrics.Mean(name="total")

    @property
    def metrics(self):
        return [self.total]

    def train_step(self, data):
        with tf.GradientTape() as tape:
            mean, spread = tf.split(self.encoder(data), 2, 1)
            latent = mean + tf.exp(spread / 2) * tf.random.normal(tf.shape(mean))
            loss = tf.reduce_mean((self.decoder(latent) - data) ** 2)
            loss += 0.01 * tf.reduce_mean(tf.exp(spread) + mean**2 - 1 - spread)
        gradients = tape.gradient(loss, self.trainable_weights)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_weights))
        self.total.update_state(loss)
        return {"loss": self.total.result()}


x = np.random.default_rng(0).random((256, 16)).astype("f4")
x = x[:]  # eai: x = x[eai.rank() :: eai.size()]
model = Vae()
model.compile(keras.optimizers.Adam(0.01))
history = model.fit(x, batch_size=32, epochs=4, verbose=0)  # eai: history = eai.fit(model, x, batch_size=32 // eai.size(), epochs=4, verbose=0)
