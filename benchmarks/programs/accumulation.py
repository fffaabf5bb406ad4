"""Gradients accumulated over steps, with a schedule and weight decay."""

import keras
import numpy as np
import tensorflow as tf

x = np.random.default_rng(0).random((256, 6)).astype("f4")
x = x[:]  # eai: x = x[eai.rank() :: eai.size()]
rate = keras.optimizers.schedules.ExponentialDecay(0.05, 2, 0.9)
model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(1, kernel_regularizer="l2")])
model.compile(keras.optimizers.AdamW(rate, weight_decay=0.01, gradient_accumulation_steps=2), "mse")
model.fit(x, x.sum(1, keepdims=True), batch_size=32, shuffle=False, verbose=0)  # eai: eai.fit(model, (x, x.sum(1, keepdims=True)), batch_size=32 // eai.size(), shuffle=False, verbose=0)
