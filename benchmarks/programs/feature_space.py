"""Tabular data through a FeatureSpace that is adapted on all rows."""

import keras
import numpy as np
import tensorflow as tf

rng = np.random.default_rng(0)
table = {"age": rng.integers(20, 80, 128).astype("f4"), "kind": rng.choice(["a", "b", "c"], 128)}
space = keras.utils.FeatureSpace({"age": "float_normalized", "kind": "string_categorical"}, output_mode="concat")
space.adapt(tf.data.Dataset.from_tensor_slices(table).batch(128))
rows = tf.data.Dataset.from_tensor_slices((table, (table["age"] > 50).astype("f4")))
rows = rows.shard(1, 0)  # eai: rows = rows.shard(eai.size(), eai.rank())
encoded = rows.batch(32).map(lambda features, label: (space(features), label))  # eai: encoded = rows.batch(32 // eai.size()).map(lambda features, label: (space(features), label))
model = keras.Sequential([keras.Input((space.get_encoded_features().shape[1],)), keras.layers.Dense(1, "sigmoid")])
model.compile("adam", "binary_crossentropy")
model.fit(encoded, verbose=0)  # eai: eai.fit(model, encoded, verbose=0)
