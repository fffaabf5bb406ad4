"""Encode rows of an embedding's gradient as bytes, each with its id and its scale.

A row that explains itself can be cut, joined and sent anywhere, and a rare id with a tiny
gradient keeps its precision beside a frequent one with a large gradient.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from eai_notebook.compression import number_codecs
from eai_notebook.compression.wire_registry import wire_format

if TYPE_CHECKING:
    import tensorflow as tf

    from eai_notebook.compression.wire_format import WireFormat

_SHORT: Final = 3
"""Bytes of an id below 2**24."""
_LEAST: Final = -100
_MOST: Final = 127


@dataclass(frozen=True)
class RowCodec:
    """How rows of `width` numbers of `dtype`, with ids below `ids`, become bytes.

    ``"fp32"`` keeps the numbers' own format, whatever it is; all others give float32 back. A
    scale, where the format has one (`WireFormat.row_scale`), is a power of two in one byte.

    Examples:
        >>> RowCodec("fp16", 8, "float32", ids=1000).row_bytes
        20
    """

    format: str
    width: int
    dtype: str
    ids: int

    @property
    def id_bytes(self) -> int:
        """Bytes of an id: 3 or 4; none where there are no ids."""
        if self.ids == 0:
            return 0
        return _SHORT if self.ids <= 1 << 24 else _SHORT + 1

    @property
    def row_bytes(self) -> int:
        """Bytes of a row, its id and its scale included."""
        return self.id_bytes + self._scale_bytes + self.width * int(self._dtype.size)

    @property
    def _wire(self) -> WireFormat:
        return wire_format(self.format)

    @property
    def _scale_bytes(self) -> int:
        return int(self._wire.row_scale is not None)

    @property
    def _dtype(self) -> tf.DType:
        import tensorflow as tf

        return self._wire.row_dtype(tf.as_dtype(self.dtype))

    def pack(self, ids: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
        """Return int32 `ids` [n] and `rows` [n, width] as uint8 [n, row_bytes].

        A number that is not finite stays so; in int8 it takes its row with it.
        """
        import tensorflow as tf

        parts = [tf.bitcast(ids, tf.uint8)[:, : self.id_bytes]]
        scale = self._wire.row_scale
        if scale is not None:
            exponent = _exponent(rows)
            parts.append(tf.cast(exponent + 128, tf.uint8)[:, None])
            rows *= number_codecs.power_of_two(scale - exponent)[:, None]
        rows = self._wire.encode_rows(rows)
        parts.append(_bytes(rows, self.width * int(self._dtype.size)))
        return tf.concat(parts, axis=1)

    def unpack(self, packed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the ids and rows that `pack` was given, rounded as the format rounds."""
        import tensorflow as tf

        packed = tf.ensure_shape(packed, [None, self.row_bytes])
        short = packed[:, : self.id_bytes]
        ids = tf.bitcast(tf.pad(short, [[0, 0], [0, 4 - self.id_bytes]]), tf.int32)
        rows = _numbers(packed[:, -self.width * self._dtype.size :], self._dtype, self.width)
        rows = self._wire.decode_rows(rows)
        scale = self._wire.row_scale
        if scale is not None:
            exponent = tf.cast(packed[:, self.id_bytes], tf.int32) - 128
            rows *= number_codecs.power_of_two(exponent - scale)[:, None]
        return ids, rows


def _exponent(rows: tf.Tensor) -> tf.Tensor:
    """Return the power of two of each row's largest number, read off its bits; int32 [n]."""
    import tensorflow as tf

    bits = tf.bitcast(tf.reduce_max(tf.abs(rows), axis=1), tf.int32)
    exponent = tf.bitwise.bitwise_and(tf.bitwise.right_shift(bits, 23), 255) - 127
    return tf.clip_by_value(exponent, _LEAST, _MOST)


def _bytes(rows: tf.Tensor, width: int) -> tf.Tensor:
    """Return the bytes of `rows`, [n, width]."""
    import tensorflow as tf

    return tf.reshape(tf.bitcast(rows, tf.uint8), [-1, width])


def _numbers(packed: tf.Tensor, kind: tf.DType, width: int) -> tf.Tensor:
    """Return uint8 [n, width * size] as [n, width] numbers of `kind`."""
    import tensorflow as tf

    if kind.size == 1:
        return tf.bitcast(packed, kind)
    return tf.bitcast(tf.reshape(packed, [-1, width, kind.size]), kind)
