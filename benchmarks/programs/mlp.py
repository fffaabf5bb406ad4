"""A classifier with class weights and clipped gradients."""

import keras
import numpy as np
import tensorflow as tf

rng = np.random.default_rng(0)
x, y = rng.random((256, 20)).astype("f4"), rng.integers(0, 4, 256)
x, y = x[:], y[:]  # eai: x, y = x[eai.rank() :: eai.size()], y[eai.rank() :: eai.size()]
model = keras.Sequential([keras.Input((20,)), keras.layers.Dense(16, "relu"), keras.layers.Dense(4, "softmax")])
model.compile(keras.optimizers.Adam(0.01, clipnorm=1.0), "sparse_categorical_crossentropy", metrics=["accuracy"])
model.fit(x, y, batch_size=64, epochs=2, shuffle=False, verbose=0, class_weight={0: 2.0, 1: 1.0, 2: 1.0, 3: 1.0})  # eai: eai.fit(model, (x, y), batch_size=64 // eai.size(), epochs=2, shuffle=False, verbose=0, class_weight={0: 2.0, 1: 1.0, 2: 1.0, 3: 1.0})
