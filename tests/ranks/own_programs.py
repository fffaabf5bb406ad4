"""Models with steps, optimizers and data of their own: whatever trains in plain Keras trains here.

`HOW` has, by model, the ways to train it.
"""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

import eai_notebook as eai
from eai_notebook import collective
from eai_notebook.errors import EaiError

collective.ensure_formed()
rank = eai.rank()
x = np.random.default_rng(rank).normal(size=(64, 8)).astype("f4")
y = (x[:, :1] > 0).astype("f4")


class NoCall(keras.Model):
    """As Keras's VAE: a step of its own, and no call."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = keras.Sequential([keras.layers.Dense(4, "tanh"), keras.layers.Dense(1)])

    def train_step(self, data: Any) -> Any:
        inputs, targets = data
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((self.inner(inputs) - targets) ** 2)
        variables = self.trainable_variables
        self.optimizer.apply(tape.gradient(loss, variables), variables)
        return {"loss": loss}


class Net(keras.Model):
    """Not built by ``build``, which only notes the shape."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = keras.layers.Dense(4), keras.layers.Dense(1)

    def call(self, inputs: Any) -> Any:
        return self.second(self.first(inputs))


class Gan(keras.Model):
    """Two optimizers, two steps of the critic for one of the generator, metrics of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = keras.Sequential([keras.layers.Dense(8)])
        self.critic = keras.Sequential([keras.layers.Dense(16), keras.layers.Dense(1)])

    def compile(self, critic_optimizer: Any, generator_optimizer: Any) -> None:
        super().compile()
        self.critic_optimizer, self.generator_optimizer = critic_optimizer, generator_optimizer
        self.losses_of = {name: keras.metrics.Mean(name=name) for name in ("critic", "generator")}

    @property
    def metrics(self) -> list[Any]:
        return list(self.losses_of.values())

    def train_step(self, real: Any) -> Any:
        latent = tf.random.normal((tf.shape(real)[0], 3))
        for _ in range(2):
            with tf.GradientTape() as tape:
                fake = tf.reduce_mean(self.critic(self.generator(latent)))
                loss = fake - tf.reduce_mean(self.critic(real))
            weights = self.critic.trainable_weights
            gradients = tape.gradient(loss, weights)
            self.critic_optimizer.apply_gradients(zip(gradients, weights, strict=True))
        self.losses_of["critic"].update_state(loss)
        with tf.GradientTape() as tape:
            loss = -tf.reduce_mean(self.critic(self.generator(latent)))
        weights = self.generator.trainable_weights
        gradients = tape.gradient(loss, weights)
        self.generator_optimizer.apply_gradients(zip(gradients, weights, strict=True))
        self.losses_of["generator"].update_state(loss)
        return {name: metric.result() for name, metric in self.losses_of.items()}


def gan(how: str) -> keras.Model:
    model = Gan()
    optimizers: list[Any] = [keras.optimizers.Adam(0.01), keras.optimizers.Adam(0.02)]
    if how != "eai.fit":
        optimizers = [eai.DistributedOptimizer(each) for each in optimizers]
    model.compile(*optimizers)
    return fitted(model, how, x)


def no_call(how: str) -> keras.Model:
    model = NoCall()
    model.compile("sgd" if how == "eai.fit" else eai.DistributedOptimizer("sgd"))
    return fitted(model, how, x, y)


def net(how: str) -> keras.Model:
    model = Net()
    model.build((None, 8))
    model.compile("adam" if how == "eai.fit" else eai.DistributedOptimizer("adam"), "mse")
    return fitted(model, how, x, y)


def series(how: str) -> keras.Model:
    inputs = keras.Input((20, 1))
    model = keras.Model(inputs, keras.layers.Dense(1)(keras.layers.LSTM(2)(inputs)))
    model.compile("adam" if how == "eai.fit" else eai.DistributedOptimizer("adam"), "mse")
    values = np.sin(np.arange(200) / 9).astype("f4")[:, None]
    data = keras.utils.timeseries_dataset_from_array(
        values[:-20], values[20:], sequence_length=20, batch_size=32
    )
    return fitted(model, how, data)


def pictures(how: str) -> keras.Model:
    """Pictures of unknown size, and a model that does not know its input."""
    shown = tf.data.Dataset.range(32).map(
        lambda number: (
            tf.ensure_shape(
                tf.numpy_function(lambda _: np.ones((9, 9, 3), "f4"), [number], tf.float32),
                (None, None, 3),
            ),
            number % 2,
        )
    )
    layers = [keras.layers.Conv2D(2, 5), keras.layers.GlobalAveragePooling2D()]
    model = keras.Sequential([*layers, keras.layers.Dense(2)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam" if how == "eai.fit" else eai.DistributedOptimizer("adam"), loss)
    return fitted(model, how, shown.batch(16))


def fitted(model: keras.Model, how: str, *data: Any) -> keras.Model:
    settings = {"verbose": 0} if len(data) == 1 and hasattr(data[0], "element_spec") else {}
    settings = settings or {"verbose": 0, "batch_size": 16}
    if how == "eai.fit":
        eai.fit(model, data if len(data) > 1 else data[0], **settings)
    elif how == "callbacks":
        model.fit(*data, callbacks=eai.callbacks(), **settings)
    else:
        model.fit(*data, **settings)
    return model


def loop() -> list[Any]:
    """Train an unbuilt model in a loop of one's own."""
    model = keras.Sequential([keras.layers.Dense(4), keras.layers.Dense(1)])
    optimizer = keras.optimizers.Adam()

    @tf.function
    def step(inputs: Any, targets: Any) -> None:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((model(inputs) - targets) ** 2)
        weights = model.trainable_variables
        gradients = eai.allreduce_gradients(tape.gradient(loss, weights), weights)
        optimizer.apply_gradients(zip(gradients, weights, strict=True))

    for _ in range(2):
        step(x, y)
    return [each.tolist() for each in model.get_weights()]


found: dict[str, Any] = {"loop": loop()}
for make in (no_call, net, gan, series, pictures):
    for how in HOW[make.__name__]:  # type: ignore[name-defined]  # noqa: F821
        keras.utils.set_random_seed(rank)  # rank 0's weights must count
        weights = make(how).get_weights()
        found[f"{make.__name__} {how}"] = [each.tolist() for each in weights]

refused = ""
plain = Gan()
plain.compile(keras.optimizers.Adam(), keras.optimizers.Adam())
try:
    plain.fit(x, verbose=0, callbacks=eai.callbacks())
except EaiError as error:
    refused = error.what
report({"weights": found, "refused": refused})  # type: ignore[name-defined]  # noqa: F821
