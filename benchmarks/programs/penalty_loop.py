"""A loop of one's own with a penalty on the slope, two optimizers and one persistent tape."""

import keras
import numpy as np
import tensorflow as tf

x = np.random.default_rng(0).random((128, 6)).astype("f4")
x = x[:]  # eai: x = x[eai.rank() :: eai.size()]
batches = tf.data.Dataset.from_tensor_slices((x, x.sum(1, keepdims=True))).batch(32)  # eai: batches = tf.data.Dataset.from_tensor_slices((x, x.sum(1, keepdims=True))).batch(32 // eai.size())
below, above = keras.layers.Dense(4, "tanh"), keras.layers.Dense(1)
model = keras.Sequential([keras.Input((6,)), below, above])
slow = keras.optimizers.SGD(0.01)  # eai: slow = eai.DistributedOptimizer(keras.optimizers.SGD(0.01))
quick = keras.optimizers.SGD(0.1)  # eai: quick = eai.DistributedOptimizer(keras.optimizers.SGD(0.1))


@tf.function
def step(inputs, targets):
    with tf.GradientTape(persistent=True) as tape:
        with tf.GradientTape() as inner:
            inner.watch(inputs)
            answers = model(inputs)
        slopes = inner.gradient(answers, inputs)
        loss = tf.reduce_mean((answers - targets) ** 2) + 0.1 * tf.reduce_mean(slopes**2)
    slow.apply(tape.gradient(loss, below.trainable_variables), below.trainable_variables)
    quick.apply(tape.gradient(loss, above.trainable_variables), above.trainable_variables)


for inputs, targets in batches:
    step(inputs, targets)
