"""A stateful recurrent network that carries its state from batch to batch."""

import keras
import numpy as np

rng = np.random.default_rng(0)
x, y = rng.normal(size=(128, 4, 3)).astype("f4"), rng.random((128, 1)).astype("f4")
x, y = x[:], y[:]  # eai: x, y = x[eai.rank() :: eai.size()], y[eai.rank() :: eai.size()]
rows = 32  # eai: rows = 32 // eai.size()
model = keras.Sequential([keras.Input(batch_shape=(rows, 4, 3)), keras.layers.LSTM(4, stateful=True), keras.layers.Dense(1)])
model.compile("sgd", "mse")
for _ in range(2):
    model.fit(x, y, batch_size=rows, epochs=2, shuffle=False, verbose=0)  # eai: eai.fit(model, x, y, batch_size=rows, epochs=2, shuffle=False, verbose=0)
model.evaluate(x, y, batch_size=rows, verbose=0)  # eai: eai.evaluate(model, x, y, batch_size=rows, verbose=0)
