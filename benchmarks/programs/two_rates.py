"""An optimizer for the encoder and another for the head, with a rate that falls."""

import keras
import numpy as np

x = np.random.default_rng(0).random((128, 6)).astype("f4")
x = x[:]  # eai: x = x[eai.rank() :: eai.size()]
model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(4, "tanh", name="encoder"), keras.layers.Dense(1)])
rates = keras.optimizers.OptimizerMap(keras.optimizers.SGD(0.1), {".*encoder/.*": keras.optimizers.Adam(0.01)})
model.compile(keras.optimizers.MultiOptimizer(rates), "mse")
falls = keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.5)
model.fit(x, x.sum(1, keepdims=True), batch_size=32, epochs=3, shuffle=False, verbose=0, callbacks=[falls])  # eai: eai.fit(model, x, x.sum(1, keepdims=True), batch_size=32 // eai.size(), epochs=3, shuffle=False, verbose=0, callbacks=[falls])
