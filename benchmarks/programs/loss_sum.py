"""A loss that sums over the rows of the batch, with a penalty that a layer adds."""

import keras
import numpy as np

x = np.random.default_rng(0).random((128, 6)).astype("f4")
x = x[:]  # eai: x = x[eai.rank() :: eai.size()]
model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(4, kernel_regularizer="l2"), keras.layers.Dense(1)])
model.compile(keras.optimizers.SGD(1e-3), keras.losses.MeanSquaredError(reduction="sum"))
model.fit(x, x.sum(1, keepdims=True), batch_size=32, epochs=2, shuffle=False, verbose=0)  # eai: eai.fit(model, x, x.sum(1, keepdims=True), batch_size=32 // eai.size(), epochs=2, shuffle=False, verbose=0)
