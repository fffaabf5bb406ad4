"""A siamese network: one encoder, two inputs."""

import keras
import numpy as np
import tensorflow as tf

rng = np.random.default_rng(0)
left, right = rng.random((2, 128, 10)).astype("f4")
same = (np.abs(left - right).mean(1) < 0.33).astype("f4")
share = slice(None)  # eai: share = slice(eai.rank(), None, eai.size())
encoder = keras.Sequential([keras.Input((10,)), keras.layers.Dense(4, "tanh")])
a, b = keras.Input((10,)), keras.Input((10,))
apart = keras.layers.Subtract()([encoder(a), encoder(b)])
model = keras.Model([a, b], keras.layers.Dense(1, "sigmoid")(apart))
model.compile("adam", "binary_crossentropy")
pairs = tf.data.Dataset.from_tensor_slices(((left[share], right[share]), same[share]))
model.fit(pairs.batch(32), verbose=0)  # eai: eai.fit(model, pairs.batch(32 // eai.size()), verbose=0)
