"""Dropout masks, batch norm over all ranks, a train_step that exchanges nothing; two ranks."""

import keras
import numpy as np
import tensorflow as tf

import eai_notebook as eai
from eai_notebook import collective
from eai_notebook.errors import EaiError

collective.ensure_formed()
rank = eai.rank()
rng = np.random.default_rng(5)
x = (rng.normal(size=(32, 6)) + np.arange(32)[:, None]).astype("float32")
y = x[:, :1]
mine = eai.shard(x, y)
found = {}


def weights(model):
    return np.concatenate([w.ravel() for w in model.get_weights()]).tolist()


# The same seeds on all ranks: equal initial weights, other masks.
class Mask(keras.layers.Layer):
    def __init__(self):
        super().__init__()
        self.seed_generator = keras.random.SeedGenerator(1337)
        self.seen = self.add_weight(shape=(1, 6), trainable=False, initializer="zeros")

    def call(self, inputs, training=False):
        if training:
            self.seen.assign(keras.random.normal((1, 6), seed=self.seed_generator))
        return inputs


class Seen(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        self.before = weights(self.model)

    def on_train_batch_end(self, batch, logs=None):
        self.seen = keras.ops.convert_to_numpy(self.model.layers[0].seen).ravel().tolist()


keras.utils.set_random_seed(7)
model = keras.Sequential(
    [keras.Input((6,)), Mask(), keras.layers.Dropout(0.5), keras.layers.Dense(1)]
)
model.compile("sgd", "mse")
seen = Seen()
states = [np.asarray(g.state).tolist() for g in [model.layers[0].seed_generator]]
eai.fit(model, *mine, batch_size=8, callbacks=[seen], verbose=0)
found["masks"], found["initial"] = seen.seen, seen.before
found["dropout"] = np.asarray(model.layers[1].seed_generator.state).tolist()


# synchronized=True: two ranks' steps are those of one process with all rows.
def normed():
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.BatchNormalization(synchronized=True, momentum=0.5),
            keras.layers.Dense(1),
        ]
    )
    model.compile(keras.optimizers.SGD(0.01), "mse")
    return model


together, alone = normed(), normed()
eai.fit(together, *mine, batch_size=16, shuffle=False, verbose=0)
alone.fit(x, y, batch_size=32, shuffle=False, verbose=0)
apart = np.abs(np.subtract(weights(together), weights(alone)))
found["batch_norm"] = float((apart / np.maximum(np.abs(weights(alone)), 1)).max())


# A train_step with an optimizer that is no part of the model, which nobody can distribute.
outside = keras.optimizers.SGD(0.01)


class Own(keras.Model):
    def __init__(self):
        super().__init__()
        self.inner = keras.layers.Dense(1)

    def call(self, inputs):
        return self.inner(inputs)

    def train_step(self, data):
        inputs, targets = data
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((self(inputs, training=True) - targets) ** 2)
        gradients = tape.gradient(loss, self.trainable_variables)
        outside.apply(gradients, self.trainable_variables)
        return {"loss": loss}


steps = []


class Count(keras.callbacks.Callback):
    def on_train_batch_begin(self, batch, logs=None):
        steps.append(batch)


own = Own()
own.compile("sgd")
own(x[:1])
outside.build(own.trainable_variables)
try:
    eai.fit(own, *mine, batch_size=2, callbacks=[Count()], verbose=0)
    found["own"] = None
except EaiError as error:
    found["own"] = str(error)
found["steps"] = len(steps)
report(found)  # noqa: F821 -- the test's
