"""Moving averages of the weights, which validation uses."""

import keras
import numpy as np

x = np.random.default_rng(0).random((128, 6)).astype("f4")
whole = x, x.sum(1, keepdims=True)
x = x[:]  # eai: x = x[eai.rank() :: eai.size()]
model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(1)])
model.compile(keras.optimizers.Adam(0.01, use_ema=True, ema_momentum=0.5), "mse")
swap = keras.callbacks.SwapEMAWeights(swap_on_epoch=True)
model.fit(x, x.sum(1, keepdims=True), batch_size=32, epochs=3, shuffle=False, verbose=0, validation_data=whole, callbacks=[swap])  # eai: eai.fit(model, x, x.sum(1, keepdims=True), batch_size=32 // eai.size(), epochs=3, shuffle=False, verbose=0, validation_data=whole, callbacks=[swap])
