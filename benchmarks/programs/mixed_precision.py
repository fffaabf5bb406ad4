"""Training in float16 with the loss scale that Keras puts around."""

import keras
import numpy as np
import tensorflow as tf

keras.mixed_precision.set_global_policy("mixed_float16")
RANDOM = True  # half precision rounds other sums otherwise
x = np.random.default_rng(0).random((128, 6)).astype("f4")
x = x[:]  # eai: x = x[eai.rank() :: eai.size()]
model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(4, "relu"), keras.layers.Dense(1, dtype="float32")])
model.compile(keras.optimizers.Adam(0.01), "mse")  # eai: model.compile(eai.DistributedOptimizer(keras.optimizers.Adam(0.01)), "mse")
history = model.fit(x, x.sum(1, keepdims=True), batch_size=32, epochs=3, shuffle=False, verbose=0)  # eai: history = model.fit(x, x.sum(1, keepdims=True), batch_size=32 // eai.size(), epochs=3, shuffle=False, verbose=0)
