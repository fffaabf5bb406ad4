"""Wire format int8: blocks of 8-bit numbers that share a scale, with error feedback."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np

from eai_notebook.collective.membership import rank, size
from eai_notebook.compression import number_codecs
from eai_notebook.compression.coded_average import average_by_codes, padded
from eai_notebook.compression.coded_average import flat as flattened
from eai_notebook.compression.wire_format import DenseAverage, WireFormat

if TYPE_CHECKING:
    from collections.abc import Sequence

    import tensorflow as tf

    from eai_notebook.compression.wire_format import ExchangeMemory


def average_coded(
    flat: tf.Tensor, owed: tf.Variable, name: str, codec: number_codecs.BlockCodec
) -> tf.Tensor:
    """Return the average of flat float32 over the ranks, sent in codes, added in fp32.

    What rounding takes away is remembered in `owed` (float32, the shape of `flat`) and sent
    with the next gradient, so that over the steps nothing is lost (error feedback: Seide
    et al. 2014; Karimireddy et al. 2019, arXiv:1901.09847). The rounding of the sum is
    owed by the rank that made it.
    """
    import tensorflow as tf

    length = int(flat.shape[0])
    rows = padded(flat + owed.read_value(), codec.block)
    width = int(rows.shape[1])

    def decode(coded: tf.Tensor) -> tf.Tensor:
        return codec.decode(coded, width)

    sent: list[tf.Tensor] = []

    def encode(values: tf.Tensor) -> tf.Tensor:
        sent.append(codec.encode(values))
        return sent[-1]

    average, total = average_by_codes(rows, encode, decode, name)
    short = rows - decode(sent[0])
    mine = (total - decode(sent[1])) * float(size())
    left = tf.tensor_scatter_nd_add(short, [[rank() % size()]], mine)
    owed.assign(flattened(_finite(left), length))
    return flattened(average, length)


def _finite(values: tf.Tensor) -> tf.Tensor:
    """Return `values` with zeros for what is not finite: the step shows it, the next must not.

    Nearly always all are finite, which their sum shows.
    """
    import tensorflow as tf

    def cleaned() -> tf.Tensor:
        return tf.where(tf.math.is_finite(values), values, tf.zeros_like(values))

    return tf.cond(tf.math.is_finite(tf.reduce_sum(values)), lambda: values, cleaned)


class Int8(WireFormat):
    """A quarter of the bytes; what rounding takes away is sent with the next step."""

    name: ClassVar[str] = "int8"
    in_auto: ClassVar[bool] = True
    without_memory: ClassVar[bool] = False
    row_scale: ClassVar[int | None] = 6
    codec: ClassVar[number_codecs.BlockCodec] = number_codecs.INT8

    def average(
        self, parts: Sequence[tf.Tensor], memory: ExchangeMemory, name: str
    ) -> DenseAverage:
        """Send codes, add in float32; each rank remembers what it has yet to send."""
        import tensorflow as tf

        # A block shares one scale, so none may hold numbers of two gradients.
        block = self.codec.block
        lengths = [int(part.shape[0]) for part in parts]
        widths = [-(-length // block) * block for length in lengths]
        filled = [
            tf.pad(part, [[0, width - length]]) if width > length else part
            for part, length, width in zip(parts, lengths, widths, strict=True)
        ]
        owed = memory.own(np.zeros(sum(widths), np.float32))
        mean = tf.split(average_coded(tf.concat(filled, 0), owed, name, self.codec), widths)
        averages = [part[:length] for part, length in zip(mean, lengths, strict=True)]
        return DenseAverage(averages, self.bytes_for(sum(widths)))

    def bytes_for(self, count: int) -> int:
        """Return the bytes of `count` numbers and their scales, filled up to whole blocks.

        Of these, as of an allreduce's, 2(N-1)/N times as many leave each rank.
        """
        ranks, block = size(), self.codec.block
        return ranks * self.codec.width(-(-count // (ranks * block)) * block)

    def row_dtype(self, dtype: tf.DType) -> tf.DType:  # noqa: ARG002 -- the interface's shape
        """Return int8."""
        import tensorflow as tf

        return tf.int8

    def encode_rows(self, rows: tf.Tensor) -> tf.Tensor:
        """Return the rows as whole numbers; a row that is not finite is all -128."""
        import tensorflow as tf

        sane = tf.reduce_all(tf.math.is_finite(rows), axis=1, keepdims=True)
        coded = tf.clip_by_value(tf.round(rows), -127.0, 127.0)
        return tf.cast(tf.where(sane, coded, -128.0), tf.int8)

    def decode_rows(self, rows: tf.Tensor) -> tf.Tensor:
        """Return the rows as float32, NaN where one was not finite."""
        import tensorflow as tf

        return tf.where(tf.equal(rows, -128), float("nan"), tf.cast(rows, tf.float32))


FORMAT: Final = Int8()
