"""Encode rows of an embedding's gradient as bytes, each with its id and its scale.

A row that explains itself can be cut, joined and sent anywhere, and a rare id with a tiny
gradient keeps its precision beside a frequent one with a large gradient.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from eai_notebook.compression import number_codecs

if TYPE_CHECKING:
    import tensorflow as tf

_SHORT: Final = 3
"""Bytes of an id below 2**24."""
_SCALED: Final = {"fp16": 14, "int8": 6}
"""The formats whose rows have a scale: the power of two that a row's largest number is
brought to. Half precision ends at 2**16, whole numbers of 8 bits at 2**7."""
_LEAST: Final = -100
_MOST: Final = 127


@dataclass(frozen=True)
class RowCodec:
    """How rows of `width` numbers of `dtype`, with ids below `ids`, become bytes.

    ``"fp32"`` keeps the numbers' own format, whatever it is. ``"fp16"`` and ``"int8"``
    have a scale a row, a power of two in one byte; all but ``"fp32"`` give float32 back.

    Example:
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
        return self.id_bytes + (self.format in _SCALED) + self.width * self._number_bytes

    @property
    def _number_bytes(self) -> int:
        import tensorflow as tf

        own = int(tf.as_dtype(self.dtype).size)
        return {"fp32": own, "fp16": 2, "bf16": 2, "int8": 1}[self.format]

    def pack(self, ids: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
        """Return int32 `ids` [n] and `rows` [n, width] as uint8 [n, row_bytes].

        A number that is not finite stays so; in int8 it takes its row with it.
        """
        import tensorflow as tf

        parts = [tf.bitcast(ids, tf.uint8)[:, : self.id_bytes]]
        if self.format in _SCALED:
            exponent = _exponent(rows)
            parts.append(tf.cast(exponent + 128, tf.uint8)[:, None])
            rows *= number_codecs.power_of_two(_SCALED[self.format] - exponent)[:, None]
        if self.format == "int8":
            # A row that is not finite is marked: whole numbers cannot be that by themselves.
            sane = tf.reduce_all(tf.math.is_finite(rows), axis=1, keepdims=True)
            coded = tf.clip_by_value(tf.round(rows), -127.0, 127.0)
            rows = tf.cast(tf.where(sane, coded, -128.0), tf.int8)
        elif self.format == "fp16":
            rows = tf.cast(rows, tf.float16)
        elif self.format == "bf16":
            rows = tf.cast(rows, tf.bfloat16)
        parts.append(_bytes(rows, self.width * self._number_bytes))
        return tf.concat(parts, axis=1)

    def unpack(self, packed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the ids and rows that `pack` was given, rounded as the format rounds."""
        import tensorflow as tf

        packed = tf.ensure_shape(packed, [None, self.row_bytes])
        short = packed[:, : self.id_bytes]
        ids = tf.bitcast(tf.pad(short, [[0, 0], [0, 4 - self.id_bytes]]), tf.int32)
        kinds = {"fp16": tf.float16, "bf16": tf.bfloat16, "int8": tf.int8}
        kind = kinds.get(self.format, tf.as_dtype(self.dtype))
        rows = _numbers(packed[:, -self.width * kind.size :], kind, self.width)
        if self.format == "fp32":
            return ids, rows
        broken = tf.equal(rows, -128) if self.format == "int8" else None
        rows = tf.cast(rows, tf.float32)
        if self.format in _SCALED:
            exponent = tf.cast(packed[:, self.id_bytes], tf.int32) - 128
            rows *= number_codecs.power_of_two(exponent - _SCALED[self.format])[:, None]
        if broken is not None:
            rows = tf.where(broken, float("nan"), rows)
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
