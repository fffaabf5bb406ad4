"""Text with a vocabulary that is adapted on all of it."""

import keras
import numpy as np
import tensorflow as tf

words = np.array([f"w{a} w{b} w{a * b % 7}" for a in range(16) for b in range(8)])
labels = np.array([len(set(text.split())) % 2 for text in words], "f4")
vectorize = keras.layers.TextVectorization(output_sequence_length=3)
vectorize.adapt(words)
x, y = np.asarray(vectorize(words)), labels
x, y = x[:], y[:]  # eai: x, y = x[eai.rank() :: eai.size()], y[eai.rank() :: eai.size()]
layers = [keras.layers.Embedding(40, 4), keras.layers.GlobalAveragePooling1D(), keras.layers.Dense(1, "sigmoid")]
model = keras.Sequential(layers)  # not built
model.compile("sgd", "binary_crossentropy")
model.fit(x, y, batch_size=32, shuffle=False, verbose=0)  # eai: eai.fit(model, (x, y), batch_size=32 // eai.size(), shuffle=False, verbose=0)
