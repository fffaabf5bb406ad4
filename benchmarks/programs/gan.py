"""A GAN with two optimizers."""

import keras
import numpy as np
import tensorflow as tf

class Gan(keras.Model):
    def __init__(self):
        super().__init__()
        self.generator, self.critic = keras.layers.Dense(8), keras.layers.Dense(1)
        self.noise = keras.random.SeedGenerator(3)

    def compile(self, critic, generator):
        super().compile()
        self.critic_optimizer, self.generator_optimizer = critic, generator

    def train_step(self, real):
        latent = real[:, :3] * 0.5 + 0.1
        for _ in range(1):
            with tf.GradientTape() as tape:
                fake = self.generator(latent)
                loss = tf.reduce_mean(self.critic(fake)) - tf.reduce_mean(self.critic(real))
            weights = self.critic.trainable_weights
            self.critic_optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights))
        with tf.GradientTape() as tape:
            score = -tf.reduce_mean(self.critic(self.generator(latent)))
        weights = self.generator.trainable_weights
        self.generator_optimizer.apply_gradients(zip(tape.gradient(score, weights), weights))
        return {"critic": loss, "generator": score}

    def penalty(self, real, fake):
        middle = (real + fake) / 2
        with tf.GradientTape() as tape:
            tape.watch(middle)
            score = self.critic(middle)
        slopes = tf.sqrt(tf.reduce_sum(tape.gradient(score, middle) ** 2, 1) + 1e-6)
        return tf.reduce_mean((slopes - 1) ** 2)


x = np.random.default_rng(0).random((128, 8)).astype("f4")
x = x[:]  # eai: x = x[eai.rank() :: eai.size()]
model = Gan()
model.compile(keras.optimizers.SGD(0.01), keras.optimizers.SGD(0.02))
model.fit(x, batch_size=32, shuffle=False, verbose=0)  # eai: eai.fit(model, x, batch_size=32 // eai.size(), shuffle=False, verbose=0)
