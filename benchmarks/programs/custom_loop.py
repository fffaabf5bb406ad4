"""A loop of one's own with a compiled step and an unbuilt model."""

import keras
import numpy as np
import tensorflow as tf

x = np.random.default_rng(0).random((128, 6)).astype("f4")
x = x[:]  # eai: x = x[eai.rank() :: eai.size()]
batches = tf.data.Dataset.from_tensor_slices((x, x.sum(1, keepdims=True))).batch(32)  # eai: batches = tf.data.Dataset.from_tensor_slices((x, x.sum(1, keepdims=True))).batch(32 // eai.size())
model = keras.Sequential([keras.layers.Dense(4, "tanh"), keras.layers.Dense(1)])
optimizer = keras.optimizers.Adam(0.01)  # eai: optimizer = eai.DistributedOptimizer(keras.optimizers.Adam(0.01))


@tf.function
def step(x, y):
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean((model(x) - y) ** 2)
    optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)


for x, y in batches:
    step(x, y)
