"""A loop of one's own, not compiled, with gradients from the tape."""

import keras
import numpy as np
import tensorflow as tf

x = np.random.default_rng(0).random((64, 6)).astype("f4")
x = x[:]  # eai: x = x[eai.rank() :: eai.size()]
batches = tf.data.Dataset.from_tensor_slices((x, x.sum(1, keepdims=True))).batch(16)  # eai: batches = tf.data.Dataset.from_tensor_slices((x, x.sum(1, keepdims=True))).batch(16 // eai.size())
pass  # eai: keras.utils.set_random_seed(1)
model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(1)])
optimizer = keras.optimizers.SGD(0.1)
for x, y in batches:
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean((model(x) - y) ** 2)
    gradients = tape.gradient(loss, model.trainable_variables)  # eai: gradients = eai.allreduce_gradients(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
    optimizer.apply(gradients, model.trainable_variables)
