"""Dropping a TensorFlow iterator does not wait for its end."""

from __future__ import annotations

import gc
import threading
from typing import TYPE_CHECKING

import keras
import numpy as np
import pytest
import tensorflow as tf

import eai_notebook as eai
from eai_notebook.train.iterator_release import release_in_background

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE_S = 300.0


class Gated:
    """Rows whose reader is stuck from the second batch on, until `gate` opens."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.ended = threading.Event()

    def rows(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        x = np.ones((4, 2), "float32")
        yield x, x[:, :1]
        self.gate.wait(PATIENCE_S)
        self.ended.set()
        yield x, x[:, :1]

    def dataset(self) -> tf.data.Dataset:
        spec = tf.TensorSpec((4, 2)), tf.TensorSpec((4, 1))
        return tf.data.Dataset.from_generator(self.rows, output_signature=spec).prefetch(1)


def test_an_iterator_that_is_dropped_ends_by_itself() -> None:
    stuck = Gated()
    iterator = iter(stuck.dataset())
    next(iterator)
    release_in_background(iterator)
    release_in_background(iterator)
    del iterator
    assert not stuck.ended.is_set()
    stuck.gate.set()
    assert stuck.ended.wait(PATIENCE_S)


def test_so_it_is_in_fit_when_it_fails() -> None:
    stuck = Gated()
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")

    def stop(*_: object, **__: object) -> None:
        raise ValueError("on purpose")

    failing = keras.callbacks.LambdaCallback(on_train_batch_end=stop)
    with pytest.raises(ValueError, match="on purpose"):
        eai.fit(model, stuck.dataset(), verbose=0, callbacks=[failing], steps_per_epoch=2)
    gc.collect()  # where Keras leaves the iterator in a cycle
    assert not stuck.ended.is_set()
    stuck.gate.set()


def test_so_it_is_in_a_loop_of_the_users_own() -> None:
    stuck = Gated()
    iterator = iter(stuck.dataset())
    with eai.step() as this:
        this.next(iterator)
    del iterator
    assert not stuck.ended.is_set()
    stuck.gate.set()


def test_other_iterators_are_left_alone() -> None:
    release_in_background(iter([1, 2]))
    release_in_background(number for number in range(2))
