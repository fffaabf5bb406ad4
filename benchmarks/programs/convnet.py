"""A small convolutional network, as for digits."""

import keras
import numpy as np
import tensorflow as tf

rng = np.random.default_rng(0)
x, y = rng.random((128, 12, 12, 1)).astype("f4"), rng.integers(0, 10, 128)
x, y = x[:], y[:]  # eai: x, y = x[eai.rank() :: eai.size()], y[eai.rank() :: eai.size()]
layers = [keras.layers.Conv2D(8, 3, activation="relu"), keras.layers.MaxPooling2D(), keras.layers.Flatten()]
model = keras.Sequential([keras.Input((12, 12, 1)), *layers, keras.layers.Dense(10, "softmax")])
model.compile("adam", "sparse_categorical_crossentropy")
model.fit(x, y, batch_size=32, shuffle=False, verbose=0)  # eai: eai.fit(model, (x, y), batch_size=32 // eai.size(), shuffle=False, verbose=0)
