"""Variables that a notebook may want to pull: of classes, models and things that cannot come."""

import dataclasses
import threading
from typing import Any

import keras
import numpy as np

import eai_notebook as eai


@dataclasses.dataclass
class Config:
    """Defined in a cell, so that only the ranks know it."""

    units: int = 4


class BreaksWhenRead:
    """Can be pickled, and not be read again."""

    def __reduce__(self) -> tuple[object, ...]:
        return int, ("no number",)


class Doubled(keras.layers.Layer):
    """A layer that only the ranks know."""

    def call(self, inputs: Any) -> Any:
        """Return twice the inputs."""
        return 2.0 * inputs


config = Config(7)
breaks = BreaksWhenRead()
lock = threading.Lock()
big = np.arange(300_000.0)
twice = lambda x: 2 * x  # noqa: E731
model = keras.Sequential([keras.Input((3,)), Doubled(), keras.layers.Dense(1)])
model.compile(eai.DistributedOptimizer(keras.optimizers.SGD(0.1)), "mse")
eai.fit(model, (np.ones((32, 3)), np.ones((32, 1))), batch_size=8, epochs=1, verbose=0)
ones = model.predict(np.ones((1, 3)), verbose=0)
