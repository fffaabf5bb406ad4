"""A bag of words as a sparse matrix of SciPy, of which each rank trains on a stretch."""

import keras
import numpy as np
import scipy.sparse

x = scipy.sparse.random(64, 40, density=0.2, random_state=1, format="csr", dtype="f4")
y = np.asarray(x.sum(1)).astype("f4")
x, y = x[:], y[:]  # eai: x, y = eai.shard(x, y)
model = keras.Sequential([keras.Input((40,)), keras.layers.Dense(1)])
model.compile("sgd", "mse")
model.fit(x, y, batch_size=64, epochs=3, shuffle=False, verbose=0)  # eai: eai.fit(model, x, y, batch_size=64 // eai.size(), epochs=3, shuffle=False, verbose=0)
