"""Optimizers and their features on all ranks, each against the plain one on the global batch.

`NAMES` are the cases to compare; None is all of them.
"""

import copy

import keras
import numpy as np
import tensorflow as tf

import eai_notebook as eai
from eai_notebook import collective

collective.ensure_formed()
rank, size, batch, steps = eai.rank(), eai.size(), 8, 6
keras.config.disable_traceback_filtering()
rng = np.random.default_rng(3)
x = rng.normal(size=(steps, size * batch, 5)).astype("float32")
ids = rng.integers(0, 12, (steps, size * batch, 2))
y = rng.normal(size=(steps, size * batch, 1)).astype("float32")
mine = slice(rank * batch, (rank + 1) * batch)


def dense(seed):
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [keras.Input((5,)), keras.layers.Dense(4, "tanh"), keras.layers.Dense(1)]
    )


def embedding(seed):
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.Input((2,), dtype="int32"),
            keras.layers.Embedding(12, 3),
            keras.layers.Flatten(),
            keras.layers.Dense(1),
        ]
    )


def train(make, optimizer, part, seed, *, eager=False):
    model = make(seed)
    model.compile(optimizer, "mse", run_eagerly=eager)
    inputs = ids if make is embedding else x
    data = tf.data.Dataset.from_tensor_slices((inputs[:, part], y[:, part]))
    model.fit(data, verbose=0, shuffle=False)
    return np.concatenate([w.ravel() for w in model.get_weights()])


def again(optimizer):
    config = keras.saving.serialize_keras_object(optimizer)
    return keras.saving.deserialize_keras_object(copy.deepcopy(config))


def compare(number, make, optimizer, wrap=eai.DistributedOptimizer, reference=None):
    """Return how far apart the weights are; one of the ranks computes what they should be."""
    # Initial weights differ: rank 0's must count everywhere.
    ours = train(make, wrap(again(optimizer)), mine, seed=rank)
    expected = np.zeros_like(ours)
    if number % size == rank:
        expected = train(make, again(reference or optimizer), slice(None), seed=0, eager=True)
    expected = collective.allreduce_numpy(expected)
    return float(np.abs(ours - expected).max() / np.abs(expected).max())


def rows(inner):
    return eai.DistributedOptimizer(inner, sparse="rows")


class Dense(keras.optimizers.Adam):
    """Adam that never sees rows: what merged ones must come to."""

    def apply(self, grads, trainable_variables=None):
        grads = [None if g is None else tf.convert_to_tensor(g) for g in grads]
        super().apply(grads, trainable_variables)


keras.saving.register_keras_serializable("test")(Dense)
o = keras.optimizers
every = [
    o.SGD(0.1),
    o.SGD(0.1, momentum=0.9, nesterov=True),
    o.Adam(0.1),
    o.AdamW(0.1),
    o.Adamax(0.1),
    o.Nadam(0.1),
    o.Ftrl(0.1),
    o.Adagrad(0.1),
    o.Adadelta(1.0),
    o.RMSprop(0.1),
    o.Lion(0.01),
    o.Lamb(0.1),
]
featured = {
    "accumulation": o.Adam(0.1, gradient_accumulation_steps=3),
    "accumulated decay": o.SGD(
        o.schedules.ExponentialDecay(0.1, 2, 0.5), gradient_accumulation_steps=2, clipnorm=0.5
    ),
    "clipnorm": o.SGD(0.1, clipnorm=0.01),
    "global_clipnorm": o.SGD(0.1, global_clipnorm=0.01),
    "clipvalue": o.SGD(0.1, clipvalue=0.01),
    "ema": o.Adam(0.1, use_ema=True, ema_overwrite_frequency=2),
    "loss_scale": o.LossScaleOptimizer(o.Adam(0.1)),
    "loss_scale accumulated": o.LossScaleOptimizer(o.Adam(0.1, gradient_accumulation_steps=2)),
}
cases = {
    **{type(each).__name__ + str(i): (dense, each) for i, each in enumerate(every)},
    **{name: (dense, each) for name, each in featured.items()},
    "embedding SGD": (embedding, o.SGD(0.1)),
    "embedding Adam": (embedding, o.Adam(0.1), rows),
    "embedding dense Adam": (embedding, Dense(0.1)),
    "embedding merged Adam": (embedding, o.Adam(0.1), eai.DistributedOptimizer, Dense(0.1)),
    "embedding accumulated": (embedding, o.Adam(0.1, gradient_accumulation_steps=2)),
    "embedding rows SGD": (embedding, o.SGD(0.1), rows),
    "control: not distributed": (dense, o.SGD(0.1), lambda inner: inner),
}
chosen = cases if NAMES is None else NAMES  # noqa: F821 -- of the test
report(  # noqa: F821 -- of the tests' prelude
    {name: compare(number, *cases[name]) for number, name in enumerate(chosen)}
)
