"""Windows of a series, whose dimensions TensorFlow does not know."""

import keras
import numpy as np
import tensorflow as tf

series = np.sin(np.arange(300) / 9).astype("f4")[:, None]
windows = keras.utils.timeseries_dataset_from_array(series[:-20], series[20:], 20, batch_size=None)
windows = windows.take(256)  # eai: windows = windows.take(256).shard(eai.size(), eai.rank())
inputs = keras.Input((20, 1))
model = keras.Model(inputs, keras.layers.Dense(1)(keras.layers.LSTM(4)(inputs)))
model.compile("adam", "mse")
model.fit(windows.batch(32), verbose=0)  # eai: eai.fit(model, windows.batch(32 // eai.size()).apply(tf.data.experimental.assert_cardinality(8)), verbose=0)
