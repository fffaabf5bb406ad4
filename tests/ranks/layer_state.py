"""Preprocessing adapted on each rank's share, or on all ranks' rows; two ranks."""

import keras
import numpy as np
import tensorflow as tf

import eai_notebook as eai
from eai_notebook import collective
from eai_notebook.errors import EaiError

collective.ensure_formed()
rank = eai.rank()
layers = keras.layers
words = np.array(list("aaabcddbbe"))
mine = words[:5] if rank == 0 else words[5:]
numbers = np.random.default_rng(1).normal(3, 2, size=(40, 3)).astype("float32")
share = numbers[:13] if rank == 0 else numbers[13:]


def refusal(call):
    try:
        call()
    except EaiError as error:
        return str(error)
    return None


def on_texts(layer):
    inputs = keras.Input((1,), dtype="string")
    embedded = layers.Embedding(9, 2)(layer(inputs))
    model = keras.Model(inputs, layers.Dense(1)(layers.Flatten()(embedded)))
    model.compile("sgd", "mse")
    return lambda **how: eai.fit(
        model, tf.constant(mine)[:, None], np.ones((5, 1)), verbose=0, **how
    )


def on_numbers(*inner):
    model = keras.Sequential([keras.Input((3,)), *inner, layers.Dense(1)])
    model.compile("sgd", "mse")
    return lambda: eai.fit(model, numbers[rank::2], numbers[rank::2, :1], verbose=0)


class Scaled(layers.Layer):
    """A layer of the user's own, with a constant."""

    def __init__(self, scale):
        super().__init__()
        self.scale = tf.constant(scale)

    def call(self, inputs):
        return inputs * self.scale


def adapted(layer, rows):
    layer.adapt(rows)
    return layer


def adapted_together(layer, rows):
    eai.adapt(layer, rows)
    return layer


found = {"refused": {}, "accepted": {}}
refused = {
    "StringLookup": on_texts(adapted(layers.StringLookup(), mine)),
    "TextVectorization": on_texts(
        adapted(layers.TextVectorization(output_sequence_length=1), mine)
    ),
    "Normalization": on_numbers(adapted(layers.Normalization(), share)),
    "Discretization": on_numbers(adapted(layers.Discretization(num_bins=4), share)),
    "Rescaling": on_numbers(layers.Rescaling(1.0 + rank)),
    "Scaled": on_numbers(Scaled([1.0 + rank])),
}
for name, call in refused.items():
    found["refused"][name] = refusal(call)
compiled = keras.Sequential(
    [keras.Input((3,)), adapted(layers.Normalization(), share), layers.Dense(1)]
)
compiled.compile(eai.DistributedOptimizer("sgd"), "mse")
found["refused"]["callbacks"] = refusal(
    lambda: compiled.fit(
        share, share[:, :1], steps_per_epoch=1, callbacks=eai.callbacks(), verbose=0
    )
)


def on_pipeline(*functions):
    data = tf.data.Dataset.from_tensor_slices((share[:12], share[:12, :1]))
    for function in functions:
        data = data.map(lambda x, y, own=function: (own(x), y))
    model = keras.Sequential([keras.Input((3,)), layers.Dense(1)])
    model.compile("sgd", "mse")
    return lambda: eai.fit(model, data.batch(4), verbose=0)


def coded(layer):
    return lambda x: tf.repeat(tf.cast(layer(tf.as_string(x[:1] > 3)), "float32"), 3)


tokens = ["0", "1"] if rank == 0 else ["1", "0"]
bins = layers.Discretization(bin_boundaries=[1.0 + rank])
found["pipeline"] = {
    "vocabulary": refusal(on_pipeline(coded(layers.StringLookup(vocabulary=tokens)))),
    "bins": refusal(on_pipeline(lambda x: tf.cast(bins(x), "float32"))),
    "same": refusal(on_pipeline(coded(layers.StringLookup(vocabulary=["0", "1"])))),
    "own": refusal(on_pipeline(lambda x: x * tf.cast(rank + 1, "float32"), lambda x: x + rank)),
}
accepted = {
    "StringLookup": on_texts(adapted_together(layers.StringLookup(), mine)),
    "dropout": on_numbers(layers.Dropout(0.5, seed=rank), Scaled([2.0])),
    "Normalization": on_numbers(adapted_together(layers.Normalization(), share)),
}
for name, call in accepted.items():
    found["accepted"][name] = refusal(call)


# Adapted on all ranks' rows: what one process makes of all rows.
def pair(make, rows, all_rows, read):
    return [
        np.asarray(read(adapted(make(), all_rows))).tolist(),
        np.asarray(read(adapted_together(make(), rows))).tolist(),
    ]


def vocabulary(layer):
    return [str(token) for token in layer.get_vocabulary()]


def flow(rows):
    return tf.data.Dataset.from_tensor_slices(rows).batch(4)


keys = np.arange(10) % 4 + 10
texts = [f"{a} {b}" for a, b in zip(words, words[::-1], strict=True)]
found["same"] = {
    "words": pair(layers.StringLookup, mine, words, vocabulary),
    "flow": pair(layers.StringLookup, flow(mine), flow(words), vocabulary),
    "integers": pair(layers.IntegerLookup, np.split(keys, 2)[rank], keys, vocabulary),
    "few": pair(lambda: layers.StringLookup(max_tokens=3), mine, words, vocabulary),
    "texts": pair(layers.TextVectorization, texts[5 * rank : 5 * rank + 5], texts, vocabulary),
    "idf": pair(
        lambda: layers.TextVectorization(output_mode="tf_idf"),
        texts[5 * rank : 5 * rank + 5],
        texts,
        lambda v: v._lookup_layer.idf_weights,
    ),
    "none here": pair(layers.StringLookup, words[: 10 * rank], words, vocabulary),
    "all": pair(layers.StringLookup, words, words, vocabulary),
}
found["near"] = {
    "mean": pair(layers.Normalization, share, numbers, lambda n: n.mean),
    "variance": pair(layers.Normalization, flow(share), flow(numbers), lambda n: n.variance),
    "one": pair(lambda: layers.Normalization(axis=None), share, numbers, lambda n: n.variance),
    "bins": pair(
        lambda: layers.Discretization(num_bins=4, epsilon=0.001),
        share,
        numbers,
        lambda d: d.bin_boundaries,
    ),
}
space = keras.utils.FeatureSpace(
    {"word": "string_categorical", "number": "float_normalized"}, output_mode="concat"
)
one = keras.utils.FeatureSpace(
    {"word": "string_categorical", "number": "float_normalized"}, output_mode="concat"
)
part = slice(0, 4) if rank == 0 else slice(4, 10)
table = {"word": words, "number": numbers[:10, 0]}
one.adapt(tf.data.Dataset.from_tensor_slices(table))
eai.adapt(space, tf.data.Dataset.from_tensor_slices({k: v[part] for k, v in table.items()}))
row = {"word": tf.constant(["a", "e"]), "number": tf.constant([1.0, 2.0])}
found["near"]["space"] = [one(row).numpy().tolist(), space(row).numpy().tolist()]
found["no adapt"] = refusal(lambda: eai.adapt(layers.Dense(1), numbers))
try:
    eai.adapt(layers.Normalization(), numbers if rank == 0 else np.array(["a", "b"]))
except (EaiError, ValueError) as error:
    found["unreadable"] = f"{type(error).__name__}: {error}"
report(found)  # noqa: F821 -- the test's
