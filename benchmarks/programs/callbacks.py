"""Callbacks: early stopping, a rate that falls, a checkpoint."""

import keras
import numpy as np
import tensorflow as tf

x = np.random.default_rng(0).random((128, 6)).astype("f4")
x = x[:]  # eai: x = x[eai.rank() :: eai.size()]
model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(1)])
model.compile(keras.optimizers.SGD(0.05), "mse")  # eai: model.compile(eai.DistributedOptimizer(keras.optimizers.SGD(0.05)), "mse")
callbacks = [
    keras.callbacks.EarlyStopping("loss", patience=1),
    keras.callbacks.ReduceLROnPlateau("loss", patience=0, min_delta=0.1),
    keras.callbacks.ModelCheckpoint("best.weights.h5", save_weights_only=True),
]
model.fit(x, x.sum(1, keepdims=True), batch_size=32, epochs=3, shuffle=False, verbose=0, callbacks=callbacks)  # eai: model.fit(x, x.sum(1, keepdims=True), batch_size=32 // eai.size(), epochs=3, shuffle=False, verbose=0, callbacks=eai.callbacks(callbacks))
