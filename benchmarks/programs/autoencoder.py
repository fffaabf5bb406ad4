"""An autoencoder: the input is the target."""

import keras
import numpy as np
import tensorflow as tf

x = np.random.default_rng(0).random((256, 32)).astype("f4")
x = x[:]  # eai: x = x[eai.rank() :: eai.size()]
model = keras.Sequential([keras.Input((32,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(32)])
model.compile("adam", "mse")
model.fit(x, x, batch_size=64, epochs=2, shuffle=False, verbose=0)  # eai: eai.fit(model, (x, x), batch_size=64 // eai.size(), epochs=2, shuffle=False, verbose=0)
