"""Models whose results depend on more than an average of gradients: two ranks next to plain Keras."""

import contextlib
import io
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import eai_notebook as eai
from eai_notebook import collective
from eai_notebook.errors import EaiError

collective.ensure_formed()
rank, size = eai.rank(), eai.size()
rng = np.random.default_rng(0)
X = rng.normal(size=(64, 4)).astype("f4")
Y = X[:, :1] * 2 - 1
SERIES = rng.normal(size=(64, 3, 2)).astype("f4")


class Counting(keras.layers.Layer):
    """Counts positive inputs, otherwise on each rank, as a whole number."""

    def build(self, _: Any) -> None:
        self.seen = self.add_weight(dtype="int32", initializer="zeros", trainable=False)

    def call(self, inputs: Any, training: bool = False) -> Any:
        if training:
            self.seen.assign_add(keras.ops.cast(keras.ops.sum(inputs > 0), "int32"))
        return inputs


class OwnStep(keras.Sequential):
    """A step of its own with Keras's loss."""

    def train_step(self, data: Any) -> Any:
        inputs, targets = data
        with tf.GradientTape() as tape:
            loss = self.compute_loss(y=targets, y_pred=self(inputs, training=True))
        variables = self.trainable_variables
        self.optimizer.apply(tape.gradient(loss, variables), variables)
        return {"loss": keras.ops.mean(loss)}


class Largest(keras.metrics.Metric):
    """A metric of the user's own: no sum."""

    def __init__(self) -> None:
        super().__init__(name="largest")
        self.most = self.add_weight(name="most", initializer="zeros")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        self.most.assign(keras.ops.maximum(self.most, keras.ops.max(y_true - y_pred)))

    def result(self) -> Any:
        return self.most


def dense(loss: Any, kind: Any = keras.Sequential, *between: Any, **settings: Any) -> Any:
    model = kind([keras.Input((4,)), keras.layers.Dense(3), *between, keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.01), loss, **settings)
    return model


def recurrent() -> Any:
    # (Between the batches of an epoch, and of two fits, the state is carried.)
    rows = 16 // (size if together else 1)
    layers = [keras.layers.LSTM(3, stateful=True), keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input(batch_shape=(rows, 3, 2)), *layers])
    model.compile("sgd", "mse")
    return model


squared = keras.losses.MeanSquaredError
MODELS = {
    "sum": lambda: dense(squared(reduction="sum")),
    "sum, own step": lambda: dense(squared(reduction="sum"), OwnStep),
    "sum, several steps at once": lambda: dense(squared(reduction="sum"), steps_per_execution=2),
    "of each row": lambda: dense(squared(reduction=None), OwnStep),
    "largest": lambda: dense("mse", metrics=[Largest()]),
    "counting": lambda: dense("mse", keras.Sequential, Counting()),
    "stateful": recurrent,
}

found: dict[str, Any] = {}
for name, make in MODELS.items():
    results = []
    inputs = SERIES if name == "stateful" else X
    for together in (False, True):
        keras.utils.set_random_seed(1 + rank * together)
        model = make()
        part = slice(rank, None, size) if together else slice(None)
        fit = eai.fit if together else keras.Model.fit
        history: dict[str, list[float]] = {}
        for _ in range(2):
            settings: dict[str, Any] = {}
            if name not in ("stateful", "of each row"):
                # (A loss that sums is reported for a batch of validation rows: of equal ones.)
                settings = {"validation_data": (X, Y), "validation_batch_size": 16}
            settings |= {"batch_size": 16 // (size if together else 1), "verbose": 0}
            fitted = fit(model, inputs[part], Y[part], epochs=2, shuffle=False, **settings)
            for key, values in fitted.history.items():
                history.setdefault(key, []).extend(np.ravel(values).tolist())
        if name == "largest":  # of its training part there is no value of all ranks
            del history["largest"]
        if isinstance(model, OwnStep):  # Keras shows 0.0 for what such a step returns
            history.clear()
        weights = [np.asarray(each).ravel().tolist() for each in model.trainable_weights]
        results.append({"weights": weights, "history": history})
    if name != "of each row":
        eai.evaluate(model, inputs[part], Y[part], batch_size=settings["batch_size"], verbose=0)
    found[name] = results

# What a loop of one's own has counted on its own rows becomes one statistic.
keras.utils.set_random_seed(1)
model = dense("mse", keras.Sequential, keras.layers.BatchNormalization())
model.compile(eai.DistributedOptimizer("sgd"), "mse")
mine = X[rank::size], Y[rank::size]
for begin in range(0, 32, 8):
    model.train_on_batch(*(each[begin : begin + 8] for each in mine))
before = model.layers[1].moving_mean.numpy()
scores = eai.evaluate(model, X, Y, verbose=0)
after = model.layers[1].moving_mean.numpy()
mean = collective.allreduce_numpy(before.astype(float)) / size
found["loop"] = [float(scores), bool(np.allclose(after, mean)), bool((before != after).any())]


# A rank with another setting is named on all ranks, before the first step.
def fit_other(**settings: Any) -> None:
    eai.fit(dense("mse"), *mine, verbose=0, **settings)


def compile_other(loss: Any = "mse", optimizer: Any = "sgd", **settings: Any) -> None:
    model = dense("mse")
    model.compile(eai.DistributedOptimizer(optimizer), loss, **settings)
    model.fit(*mine, verbose=0, callbacks=eai.callbacks())


OTHERS = {
    "epochs": lambda: fit_other(epochs=1 + rank),
    "validation_data": lambda: fit_other(validation_data=(X, Y) if rank else None),
    "validation_freq": lambda: fit_other(validation_data=(X, Y), validation_freq=[1, [2]][rank]),
    "loss": lambda: compile_other(["mse", lambda y, p: abs(y - p)][rank]),
    "loss_weights": lambda: compile_other(loss_weights=1.0 + rank),
    "metrics": lambda: compile_other(metrics=[["mae"], ["mae", "auc"]][rank]),
    "optimizer": lambda: compile_other(optimizer=keras.optimizers.SGD(momentum=0.5 * rank)),
    "class_weight": lambda: fit_other(class_weight={0: 1.0 + rank, 1: 1.0, -1: 1.0}),
    "alike": lambda: compile_other(
        lambda y, p: abs(y - p), keras.optimizers.SGD(0.1 + rank), metrics=[Largest()]
    ),
}
said = {}
for name, train in OTHERS.items():
    words = io.StringIO()
    with contextlib.redirect_stdout(words):
        try:
            train()
        except EaiError as error:
            said[name] = str(error)
        else:
            said[name] = words.getvalue() if rank == 0 else "said by rank 0"
found["said"] = said


# A program that asks for the same bits in each run gets them, and no measured steps.
tf.config.experimental.enable_op_determinism()
words = rng.integers(0, 20, (64, 5))
bits = []
for _ in range(2):
    keras.utils.set_random_seed(1)
    layers = [keras.layers.Embedding(20, 3), keras.layers.Flatten(), keras.layers.Dense(1)]
    model = keras.Sequential(layers)
    model.compile(eai.DistributedOptimizer("adam", wire="auto"), "mse")
    eai.fit(model, words[rank::size], Y[rank::size], batch_size=8, epochs=2, verbose=0)
    bits.append([each.tolist() for each in model.get_weights()])
found["deterministic"] = bits
report(found)  # type: ignore[name-defined]  # noqa: F821
