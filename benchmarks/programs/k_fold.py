"""Cross-validation: a model a fold."""

import keras
import numpy as np
import tensorflow as tf

x = np.random.default_rng(0).random((128, 6)).astype("f4")
models = []
for fold in range(2):
    train = np.arange(128)[np.arange(128) // 64 != fold]
    train = train[:]  # eai: train = train[eai.rank() :: eai.size()]
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    model.fit(x[train], x[train].sum(1, keepdims=True), batch_size=16, shuffle=False, verbose=0)  # eai: eai.fit(model, (x[train], x[train].sum(1, keepdims=True)), batch_size=16 // eai.size(), shuffle=False, verbose=0)
    models.append(model)
