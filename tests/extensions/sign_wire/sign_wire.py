"""Wire format sign: the sign of each number and one size for all of them, with error feedback.

An example of a wire format in a package of its own (signSGD with error feedback: Karimireddy et
al. 2019, arXiv:1901.09847).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
import tensorflow as tf

from eai_notebook.collective import size
from eai_notebook.compression.coded_average import average_by_codes, flat, padded
from eai_notebook.compression.wire_format import DenseAverage, WireFormat

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eai_notebook.compression.wire_format import ExchangeMemory

SCALE_BYTES = 4


def encode(rows: tf.Tensor) -> tf.Tensor:
    """Return [n, width] as int8 [n, width + 4]: signs, and the bytes of a row's mean size."""
    scale = tf.reduce_mean(tf.abs(rows), axis=1, keepdims=True)
    return tf.concat([tf.cast(tf.sign(rows), tf.int8), tf.bitcast(scale, tf.int8)[:, 0]], axis=1)


def decode(codes: tf.Tensor) -> tf.Tensor:
    """Return what `encode` keeps of its rows."""
    scale = tf.bitcast(codes[:, -SCALE_BYTES:], tf.float32)[:, None]
    return tf.cast(codes[:, :-SCALE_BYTES], tf.float32) * scale


class Sign(WireFormat):
    """A byte a number; rows of tables travel in half precision."""

    name: ClassVar[str] = "sign"
    without_memory: ClassVar[bool] = False
    row_scale: ClassVar[int | None] = 14

    def average(
        self, parts: Sequence[tf.Tensor], memory: ExchangeMemory, name: str
    ) -> DenseAverage:
        """Average signs; what they leave out is sent with the next step."""
        lengths = [int(part.shape[0]) for part in parts]
        owed = memory.own(np.zeros(sum(lengths), np.float32))
        given = tf.concat(list(parts), 0) + owed.read_value()
        rows = padded(given, 1)
        owed.assign(flat(rows - decode(encode(rows)), sum(lengths)))
        mean, _ = average_by_codes(rows, encode, decode, name)
        averages = tf.split(flat(mean, sum(lengths)), lengths)
        return DenseAverage(list(averages), self.bytes_for(sum(lengths)))

    def bytes_for(self, count: int) -> int:
        """Return a byte for each number and four for each rank's size."""
        return size() * (-(-count // size()) + SCALE_BYTES)

    def row_dtype(self, dtype: tf.DType) -> tf.DType:  # noqa: ARG002 -- the interface's shape
        """Return float16."""
        return tf.float16

    def encode_rows(self, rows: tf.Tensor) -> tf.Tensor:
        """Return the rows in half precision."""
        return tf.cast(rows, tf.float16)
