"""`eai.fit`, `evaluate`, `predict` with rows that all ranks have, or each its own; two ranks.

`KINDS` are the kinds of validation data to compare, and `WAYS` those to give training data; None is all.
"""

import contextlib
import io

import keras
import numpy as np
import tensorflow as tf

import eai_notebook as eai
from eai_notebook import collective
from eai_notebook.errors import EaiError

collective.ensure_formed()
rank, size = eai.rank(), eai.size()
rng = np.random.default_rng(0)
X = rng.normal(size=(101, 8)).astype("float32")
Y = (X[:, :1] > 0.3).astype("float32")


def make(*metrics, eager=False):
    keras.utils.set_random_seed(3)
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(1, activation="sigmoid")])
    metrics = list(metrics) or ["auc", "TruePositives"]
    model.compile("sgd", "binary_crossentropy", metrics=metrics, run_eagerly=eager)
    return model


def chosen(among, names):
    return {name: each for name, each in among.items() if names is None or name in names}


def printed(call):
    words = io.StringIO()
    with contextlib.redirect_stdout(words):
        try:
            found = call()
        except EaiError as error:
            return None, str(error)
    return found, words.getvalue()


def plain(values):
    return {name: float(np.asarray(value).ravel()[-1]) for name, value in values.items()}


class Largest(keras.metrics.Metric):
    """A metric of the user's own: no sum."""

    def __init__(self):
        super().__init__(name="largest")
        self.most = self.add_weight(name="most", initializer="zeros")

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.most.assign(keras.ops.maximum(self.most, keras.ops.max(y_pred)))

    def result(self):
        return self.most


class Lines(keras.utils.PyDataset):
    def __init__(self, x, y):
        super().__init__()
        self.x, self.y = x, y

    def __len__(self):
        return (len(self.x) + 15) // 16

    def __getitem__(self, index):
        here = slice(16 * index, 16 * index + 16)
        return self.x[here], self.y[here]


found = {}
mine = eai.shard(X, Y)
flow = tf.data.Dataset.from_tensor_slices((X, Y)).batch(16)
held = {
    "arrays": (X, Y),
    "list": [X, Y],
    "flow": flow,
    "py_dataset": Lines(X, Y),
    "few": (X[:1], Y[:1]),
    "shuffled": flow.unbatch().shuffle(101, seed=1).batch(16),
    "generated": tf.data.Dataset.from_generator(
        lambda: ((X[i : i + 16], Y[i : i + 16]) for i in range(0, 101, 16)),
        output_signature=(tf.TensorSpec((None, 8)), tf.TensorSpec((None, 1))),
    ),
}
# What one process says of all validation rows, with the weights that training ended with.
model = make()
history, _ = printed(lambda: eai.fit(model, *mine, batch_size=16, verbose=0))
alone = make()
alone.set_weights(model.get_weights())
for kind, data in chosen(held, KINDS).items():  # noqa: F821 -- of the test
    x, y = data if isinstance(data, tuple | list) else (data, None)
    one = plain(alone.evaluate(x, y, verbose=0, return_dict=True))
    again = make()
    again.set_weights(model.get_weights())
    again.optimizer.learning_rate = 0.0
    fitted, words = printed(
        lambda a=again, d=data: eai.fit(a, *mine, batch_size=16, validation_data=d, verbose=0)
    )
    history = plain({k[4:]: v for k, v in fitted.history.items() if k.startswith("val_")})
    found[kind] = [one, history, plain(eai.evaluate(model, x, y, verbose=0, return_dict=True))]
own_rows = eai.evaluate(model, *mine, verbose=0, return_dict=True)
found["own"] = [
    plain(alone.evaluate(X[:100], Y[:100], verbose=0, return_dict=True)),
    plain(own_rows),
]
user = make(Largest())
found["user"] = [
    plain(user.evaluate(X, Y, verbose=0, return_dict=True)),
    plain(eai.evaluate(user, X, Y, verbose=0, return_dict=True)),
]
found["as_list"] = len(eai.evaluate(model, X, Y, verbose=0))

whole = model.predict(X, verbose=0)
found["predict"] = [
    float(np.abs(eai.predict(model, rows, verbose=0) - expected).max())
    for rows, expected in [
        (X, whole),
        (mine[0], whole[:100]),
        (X[:1], whole[:1]),
        (flow.map(lambda x, y: x), whole),
        (held["generated"].map(lambda x, y: x), whole),
    ]
]

look = keras.layers.StringLookup(vocabulary=["a", "bb", "ccc"], invert=True)
texts = keras.Sequential([keras.Input((1,), dtype="int64"), look])
numbers = (np.arange(7) % 3 + 1)[:, None]
answers = np.ravel(eai.predict(texts, numbers, verbose=0))
found["texts"] = [each.decode() for each in answers]

# All the ways to give data; and whether it is said that all ranks have the same rows.
ways = {
    "positional": lambda m: eai.fit(m, X, Y, 16, 2, 0),
    "keywords": lambda m: eai.fit(m, x=X, y=Y, epochs=2, verbose=0),
    "tuple": lambda m: eai.fit(m, (X, Y), epochs=2, verbose=0),
    "data": lambda m: eai.fit(m, data=(X, Y), epochs=2, verbose=0),
    "epochs": lambda m: eai.fit(m, flow, 2, verbose=0),
    "py_dataset": lambda m: eai.fit(m, Lines(X, Y), epochs=2, verbose=0),
    "split": lambda m: eai.fit(m, X, Y, validation_split=0.2, epochs=2, verbose=0),
    "weights": lambda m: eai.fit(m, X, Y, sample_weight=Y[:, 0] + 1, epochs=2, verbose=0),
    "parts": lambda m: eai.fit(m, *mine, epochs=2, verbose=0),
    "sharded flow": lambda m: eai.fit(m, eai.shard(flow), epochs=2, verbose=0),
    "own flow": lambda m: eai.fit(m, flow.shard(2, rank), epochs=2, verbose=0),
    "generator": lambda m: eai.fit(
        m, (b for b in Lines(X, Y)), steps_per_epoch=2, epochs=2, verbose=0
    ),
}
found["ways"] = {}
for way, call in chosen(ways, WAYS).items():  # noqa: F821 -- of the test
    # What is said of the rows is said before the first step, which need not be compiled.
    history, words = printed(lambda c=call: c(make("mae", eager=True)))
    found["ways"][way] = [len(history.epoch) if history else words, "same rows" in words]

found["callbacks"] = []
for rows in ((X, Y), mine):
    model = make()
    model.compile(eai.DistributedOptimizer("sgd"), "mse", run_eagerly=True)
    found["callbacks"].append(
        "same rows"
        in printed(lambda m=model, r=rows: m.fit(*r, callbacks=eai.callbacks(), verbose=0))[1]
    )

# Training rows that all ranks have count once, with callbacks of ours as well.
model = make("TruePositives", "auc")
model.optimizer.learning_rate = 0.0
once = plain(model.evaluate(X, Y, verbose=0, return_dict=True))
fitted = plain(printed(lambda: eai.fit(model, X, Y, verbose=0))[0].history)
again = make("TruePositives", "auc")
still = eai.DistributedOptimizer(keras.optimizers.SGD(0.0))
again.compile(still, "binary_crossentropy", metrics=["TruePositives", "auc"])
again.set_weights(model.get_weights())
called = printed(lambda: again.fit(X, Y, callbacks=eai.callbacks(), verbose=0))[0].history
found["once"] = [once, fitted, plain(called)]

# Data that is shorter than the steps of an epoch ends after the same step on all ranks.
longer = 64 + 16 * rank
short = {
    "dataset": lambda: (flow.take(3 + rank),),
    "arrays": lambda: (X[:longer], Y[:longer]),
    "py_dataset": lambda: (Lines(X[:longer], Y[:longer]),),
}
found["short"] = {
    kind: len(
        eai.fit(
            make("mae", eager=True),
            *data(),
            batch_size=16 if kind == "arrays" else None,
            steps_per_epoch=6,
            epochs=2,
            verbose=0,
        ).epoch
    )
    for kind, data in short.items()
}

uneven = [X[: 90 if rank == 0 else 11], Y[: 90 if rank == 0 else 11]]
found["uneven"] = printed(lambda: eai.fit(make("mae", eager=True), *uneven, verbose=0))[1]
empty = [X[: 64 if rank == 0 else 0], Y[: 64 if rank == 0 else 0]]
found["empty"] = printed(lambda: eai.fit(make(), *empty, verbose=0))[1]
found["float"] = printed(lambda: eai.fit(make(), X, Y, batch_size=2.0, verbose=0))[1]
report(found)  # noqa: F821 -- the test's
