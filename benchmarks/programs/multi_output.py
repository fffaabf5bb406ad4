"""Two inputs, two outputs, two losses."""

import keras
import numpy as np
import tensorflow as tf

rng = np.random.default_rng(0)
numbers, ids = rng.random((128, 5)).astype("f4"), rng.integers(0, 9, (128, 1))
share = slice(None)  # eai: share = slice(eai.rank(), None, eai.size())
inputs = {"numbers": numbers[share], "ids": ids[share]}
targets = {"price": numbers.sum(1, keepdims=True)[share], "sold": (ids % 2).astype("f4")[share]}
a, b = keras.Input((5,), name="numbers"), keras.Input((1,), dtype="int64", name="ids")
joined = keras.layers.Concatenate()([a, keras.layers.Flatten()(keras.layers.Embedding(9, 3)(b))])
price, sold = keras.layers.Dense(1, name="price")(joined), keras.layers.Dense(1, "sigmoid", name="sold")(joined)
model = keras.Model({"numbers": a, "ids": b}, {"price": price, "sold": sold})
model.compile("sgd", {"price": "mse", "sold": "binary_crossentropy"}, loss_weights={"price": 0.5, "sold": 1.0})
model.fit(inputs, targets, batch_size=32, shuffle=False, verbose=0)  # eai: eai.fit(model, (inputs, targets), batch_size=32 // eai.size(), shuffle=False, verbose=0)
