"""Low-rank adaptation: a layer is trained, frozen, and then adapted by two small matrices."""

import keras
import numpy as np

rng = np.random.default_rng(0)
x, y = rng.random((128, 12)).astype("f4"), rng.random((128, 1)).astype("f4")
x, y = x[:], y[:]  # eai: x, y = x[eai.rank() :: eai.size()], y[eai.rank() :: eai.size()]
model = keras.Sequential([keras.Input((12,)), keras.layers.Dense(8, name="wide"), keras.layers.Dense(1)])
model.compile("sgd", "mse")
model.fit(x, y, batch_size=32, shuffle=False, verbose=0)  # eai: eai.fit(model, (x, y), batch_size=32 // eai.size(), shuffle=False, verbose=0)
wide = model.get_layer("wide")
wide.enable_lora(2)
wide.lora_kernel_b.assign(np.full((2, 8), 0.1))
model.compile("sgd", "mse")
model.fit(x, y, batch_size=32, epochs=2, shuffle=False, verbose=0)  # eai: eai.fit(model, (x, y), batch_size=32 // eai.size(), epochs=2, shuffle=False, verbose=0)
