"""Gradients in another order on one rank, and gradients that one rank does not have."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

import eai_notebook as eai
from eai_notebook import collective
from eai_notebook.errors import EaiError

collective.ensure_formed()
rank = eai.rank()
for _ in range(3 * rank):
    keras.layers.Dense(1)  # names are numbered by what a process has made


def order(names: Any) -> list[str]:
    return sorted(names, reverse=rank == 1)


gradients = {"a": tf.fill([3], 1.0), "b": tf.fill([3], 100.0)}
variables = {name: tf.Variable(tf.fill([3], rank + ord(name) * 1.0), name=name) for name in "ab"}


@tf.function
def compiled() -> list[Any]:
    names = order("ab")
    given = [gradients[name] for name in names]
    averages = eai.allreduce_gradients(given, [variables[name] for name in names])
    return [averages[names.index(name)] for name in "ab"]


def by_name() -> list[Any]:
    names = order("ab")
    averages = eai.allreduce_gradients([gradients[name] for name in names], names)
    return [averages[names.index(name)] for name in "ab"]


def applied() -> list[float]:
    """Apply with an optimizer, from lists in another order."""
    own = {name: keras.Variable(np.zeros(3, "f4"), name=name) for name in "ab"}
    optimizer = eai.DistributedOptimizer(keras.optimizers.SGD(1.0, momentum=0.9))
    for _ in range(2):
        optimizer.apply_gradients([(gradients[name], own[name]) for name in order("ab")])
    return [float(np.asarray(own[name])[0]) for name in "ab"]


def refused(own: dict[str, Any]) -> str:
    shapes = {name: 3 if value is None else len(value) for name, value in own.items()}
    given = [tf.Variable(tf.zeros([shapes[name]]), name=name) for name in own]
    try:
        eai.allreduce_gradients(list(own.values()), given)
    except EaiError as error:
        return error.what
    return ""


def named_again() -> list[float]:
    """Use names again that each rank has used before, at another time than the other rank."""
    found = []
    keras.utils.clear_session()
    for _ in range(rank):
        keras.layers.Dense(1)
    for _ in range(4):
        layer = keras.layers.Dense(1)
        layer.build((None, 3))
        (average,) = eai.allreduce_gradients([tf.fill([3, 1], rank + 1.0)], [layer.kernel])
        found.append(float(average[0, 0]))
        if len(found) == 2:
            keras.utils.clear_session()
    return found


one = tf.ones([3])
auto = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2), keras.layers.Dense(2)])
same = [tf.fill(v.shape, float(place)) for place, v in enumerate(auto.trainable_variables)]
unlike = eai.allreduce_gradients(same, auto.trainable_variables)
report(  # type: ignore[name-defined]  # noqa: F821
    {
        "compiled": [float(each[0]) for each in compiled()],
        "eager": [float(each[0]) for each in compiled.python_function()],
        "by name": [float(each[0]) for each in by_name()],
        "shared": [float(variables[name][0]) for name in "ab"],
        "applied": applied(),
        "named again": named_again(),
        "auto": [float(tf.reshape(each, [-1])[0]) for each in unlike],
        "lacking": refused({"kept": one, "left": one if rank == 1 else None}),
        "shape": refused({"wide": tf.ones([3 + rank]), "other": one}),
        "number": refused({f"n{number}": one for number in range(2 + rank)}),
    }
)
