"""A language model in small whose output layer is its embedding, transposed."""

import keras
import numpy as np


class Tied(keras.Model):
    def __init__(self):
        super().__init__()
        self.table, self.mix = keras.layers.Embedding(30, 8), keras.layers.Dense(8, "tanh")

    def call(self, words):
        mixed = self.mix(keras.ops.mean(self.table(words), axis=1))
        return keras.ops.matmul(mixed, keras.ops.transpose(self.table.embeddings))


rng = np.random.default_rng(0)
words, following = rng.integers(0, 30, (128, 5)), rng.integers(0, 30, 128)
words, following = words[:], following[:]  # eai: words, following = words[eai.rank() :: eai.size()], following[eai.rank() :: eai.size()]
model = Tied()
model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
model.fit(words, following, batch_size=32, epochs=2, shuffle=False, verbose=0)  # eai: eai.fit(model, words, following, batch_size=32 // eai.size(), epochs=2, shuffle=False, verbose=0)
