"""Rank side of `ladder.py`: the readers, the model and the steps of every rung."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any, Final

import keras
import numpy as np
import tensorflow as tf
from _step_ends import StepEnds
from pyarrow import fs

import eai_notebook as eai
from eai_notebook import parameter_servers
from eai_notebook.metrics import auc

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BATCH: Final = int(os.environ["EAI_LADDER_BATCH"])
"""Rows of one rank."""
HIDDEN: Final = tuple(map(int, os.environ["EAI_LADDER_HIDDEN"].split(",")))
SCHEMA: Final = eai.io.CRITEO.with_buckets(int(os.environ["EAI_LADDER_BUCKETS"]))
URLS: Final = os.environ["EAI_LADDER_URLS"].split(",")
LEFT_OUT: Final = 3
"""The first steps of a turn, in which functions are compiled and readers begin."""
RATE: Final = 0.02
PIECE: Final = 1 << 17
"""Bytes that a stream asks its storage for at once."""


# ---------------------------------------------------------------------------- the readers


def _files() -> tf.data.Dataset:
    """Return the names of this rank's files."""
    names = [url.removeprefix("s3://") for url in URLS]
    return tf.data.Dataset.from_tensor_slices(names[eai.rank() :: eai.size()])


def _lines(name: bytes) -> Iterator[np.ndarray]:
    """Read a file from the storage, piece by piece; yield its lines, a batch at a time."""
    endpoint = os.environ["AWS_ENDPOINT_URL"].removeprefix("http://")
    client = fs.S3FileSystem(endpoint_override=endpoint, scheme="http")
    with client.open_input_stream(name.decode(), buffer_size=PIECE) as stream:
        rest, kept = b"", []
        while piece := stream.read(PIECE):
            *lines, rest = (rest + piece).split(b"\n")
            kept += lines
            while len(kept) >= BATCH:
                yield np.array(kept[:BATCH], object)
                kept = kept[BATCH:]


def _batches(files: tf.data.Dataset, **how: Any) -> tf.data.Dataset:
    """Return batches of lines of files, which are interleaved as `how` says."""
    return files.interleave(
        lambda name: tf.data.Dataset.from_generator(
            _lines, output_signature=tf.TensorSpec([BATCH], tf.string), args=(name,)
        ),
        **how,
    )


def _decoded(lines: Any) -> Any:
    names = ("label", *SCHEMA.integers, *SCHEMA.categorical)
    fields = tf.io.decode_csv(lines, [[""]] * SCHEMA.fields, "\t", use_quote_delim=False)
    columns = dict(zip(names, fields, strict=True))
    made = eai.io.features(SCHEMA)(columns)
    return made, tf.strings.to_number(columns["label"])[:, None]


def naive() -> tf.data.Dataset:
    """One reader, which reads and parses a batch when the step asks for it."""
    options = tf.data.Options()  # TensorFlow did not yet read ahead by itself
    options.experimental_optimization.inject_prefetch = False
    options.threading.private_threadpool_size = 1
    return _batches(_files(), cycle_length=1).map(_decoded).repeat().with_options(options)


def idiomatic() -> tf.data.Dataset:
    """Files side by side, parsed in parallel, batches prefetched: as tf.data's guide has it."""
    side_by_side = {"num_parallel_calls": tf.data.AUTOTUNE, "deterministic": False}
    lines = _batches(_files().repeat(), cycle_length=4, **side_by_side)
    return lines.map(_decoded, tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def ours() -> Any:
    """`eai.io.criteo` with its defaults."""
    return eai.io.criteo(URLS, BATCH, schema=SCHEMA)


# ---------------------------------------------------------------------------- the steps


def make_model(**how: Any) -> keras.Model:
    """Return the model, with the same weights whenever it is made."""
    keras.utils.set_random_seed(0)
    model = eai.models.wide_deep(SCHEMA, hidden=HIDDEN)
    optimizer = eai.DistributedOptimizer(keras.optimizers.Adagrad(RATE), **how)
    model.compile(optimizer, "binary_crossentropy")
    return model


def train(model: keras.Model, data: Any, steps: int) -> list[float]:
    """Train; return the seconds of each step without the first ones."""
    ends = StepEnds()
    total = LEFT_OUT + steps
    servers = parameter_servers.current()
    if servers is not None:
        eai.fit(model, data, steps_per_epoch=total, verbose=0)
        return list(servers.step_seconds)[LEFT_OUT:] if eai.rank() == 0 else []
    eai.fit(model, data, steps_per_epoch=total, callbacks=[ends], verbose=0)
    return [float(each) for each in np.diff(ends.ends)[LEFT_OUT - 1 :]]


class Stock:
    """Horovod as its documentation has it: every gradient by itself, in 16 bits, rows gathered."""

    def __init__(self) -> None:
        keras.utils.set_random_seed(0)
        self.model = eai.models.wide_deep(SCHEMA, hidden=HIDDEN)
        optimizer = keras.optimizers.Adagrad(RATE)
        variables = self.model.trainable_variables
        optimizer.build(variables)
        self.step = tf.function(self._step_of(optimizer, variables), autograph=False)

    def _step_of(self, optimizer: Any, variables: list[Any]) -> Callable[..., None]:
        import horovod.tensorflow as hvd

        cross_entropy = keras.losses.BinaryCrossentropy()

        def step(x: Any, y: Any) -> None:
            with tf.GradientTape() as tape:
                loss = cross_entropy(y, self.model(x, training=True))
            found = tape.gradient(loss, [variable.value for variable in variables])
            averaged = [
                hvd.allreduce(each, name=f"stock.{number}", compression=hvd.Compression.fp16)
                for number, each in enumerate(found)
            ]
            optimizer.apply(averaged, variables)

        return step

    def train(self, data: Any, steps: int) -> list[float]:
        """Train; return the seconds of each step without the first ones."""
        batches, ends = iter(data), []
        for _ in range(LEFT_OUT + steps):
            self.step(*next(batches))
            ends.append(time.perf_counter())
        return [float(each) for each in np.diff(ends)[LEFT_OUT - 1 :]]


def held_out_auc(model: keras.Model, folder: str) -> float:
    """Return the area under the curve on the held-out rows."""
    data = eai.io.criteo(f"{folder}/test-*.tsv", 2048, schema=SCHEMA, shuffle=False, shard=False)
    labels, scores = [], []
    for x, y in data:
        labels.append(np.asarray(y)[:, 0])
        scores.append(np.asarray(model(x, training=False))[:, 0])
    return float(auc(np.concatenate(labels), np.concatenate(scores)))
