"""Transfer learning: frozen layers first, then all of them."""

import keras
import numpy as np
import tensorflow as tf

rng = np.random.default_rng(0)
x, y = rng.random((128, 12)).astype("f4"), rng.random((128, 1)).astype("f4")
x, y = x[:], y[:]  # eai: x, y = x[eai.rank() :: eai.size()], y[eai.rank() :: eai.size()]
base = keras.Sequential([keras.Input((12,)), keras.layers.Dense(8, "relu")])
base.trainable = False
model = keras.Sequential([keras.Input((12,)), base, keras.layers.Dense(1)])
model.compile("adam", "mse")
model.fit(x, y, batch_size=32, shuffle=False, verbose=0)  # eai: eai.fit(model, (x, y), batch_size=32 // eai.size(), shuffle=False, verbose=0)
base.trainable = True
model.compile(keras.optimizers.Adam(1e-4), "mse")
model.fit(x, y, batch_size=32, shuffle=False, verbose=0)  # eai: eai.fit(model, (x, y), batch_size=32 // eai.size(), shuffle=False, verbose=0)
