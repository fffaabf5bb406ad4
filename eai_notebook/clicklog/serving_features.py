"""`features`: click-log features as TensorFlow operations, for serving.

An exported model must see the features that it was trained on, so the readers' transformations are
here once more, as operations that are exported with the model. Tests compare both bit by bit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import tensorflow as tf

from eai_notebook.clicklog.bucket_hashing import FIELD_STEP, MIX_1, MIX_2
from eai_notebook.clicklog.text_parser import LOG1P, SMALL
from eai_notebook.clicklog.text_part import IDS, NUMBERS
from eai_notebook.errors import EaiError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from eai_notebook.clicklog.click_columns import ClickColumns

_MASK: Final = 0xFFFFFFFF
_HALF: Final = 0xFFFF
_NO_DIGIT: Final = 16


def _hex_table() -> np.ndarray:
    table = np.full(256, _NO_DIGIT, np.int64)
    for value, digit in enumerate("0123456789abcdef"):
        table[ord(digit)] = table[ord(digit.upper())] = value
    return table


def features(schema: ClickColumns) -> Callable[[Mapping[str, Any]], dict[str, tf.Tensor]]:
    """Return a function from a click log's columns to a model's features, for graphs and eager code.

    The function's input is tensors by column name, each ``[batch]``: text as in the log, empty if
    missing; or numbers, where a categorical below 0 is missing. Its result is ``{"numbers": float32
    [batch, 13], "ids": int32 [batch, 26]}``, equal to the readers' features bit by bit. Call it
    before the model in the function that is exported.

    Raises:
        EaiError: When called, if a column is missing. Text that is not a number raises
            TensorFlow's `InvalidArgumentError`.

    Examples:
        >>> from eai_notebook.io import CRITEO
        >>> row = {name: tf.constant([""]) for name in (*CRITEO.integers, *CRITEO.categorical)}
        >>> x = features(CRITEO)(row | {"I1": tf.constant(["-3"]), "C1": tf.constant(["68fd1e64"])})
        >>> x["numbers"].numpy()[0, :2].tolist(), x["ids"].numpy()[0, :2].tolist()
        ([-1.3862943649291992, -1.0], [434, 0])
    """
    digits = tf.constant(_hex_table())
    logs = tf.constant(LOG1P)

    def transform(columns: Mapping[str, Any]) -> dict[str, tf.Tensor]:
        for name in (*schema.integers, *schema.categorical):
            if name not in columns:
                raise EaiError(
                    f"column {name!r} is missing",
                    f"give all columns of {schema.name}",
                    code="column-unknown",
                )
        numbers = [
            _number(tf.convert_to_tensor(columns[name]), schema.missing_integer, logs)
            for name in schema.integers
        ]
        ids = [
            _id(tf.convert_to_tensor(columns[name]), field, buckets, digits)
            for field, (name, buckets) in enumerate(
                zip(schema.categorical, schema.buckets, strict=True)
            )
        ]
        return {NUMBERS: tf.stack(numbers, 1), IDS: tf.stack(ids, 1)}

    return transform


def _number(column: tf.Tensor, default: float, logs: tf.Tensor) -> tf.Tensor:
    missing = tf.zeros_like(column, tf.bool)
    if column.dtype == tf.string:
        missing = column == ""
        column = tf.strings.to_number(tf.where(missing, "0", column), tf.int64)
    value = tf.cast(column, tf.int64)
    size = tf.abs(value)
    small = tf.gather(logs, tf.minimum(size, SMALL - 1))
    large = tf.cast(tf.math.log1p(tf.cast(size, tf.float64)), tf.float32)
    log = tf.where(size < SMALL, small, large)
    return tf.where(missing, default, tf.where(value < 0, -log, log))


def _id(column: tf.Tensor, field: int, buckets: int, digits: tf.Tensor) -> tf.Tensor:
    if column.dtype == tf.string:
        missing = column == ""
        text = tf.where(missing, "00000000", column)
        eight = tf.debugging.assert_equal(
            tf.strings.length(text), 8, "a categorical is not eight hexadecimal digits"
        )
        with tf.control_dependencies([eight] if eight is not None else []):
            codes = tf.cast(tf.io.decode_raw(text, tf.uint8, fixed_length=8), tf.int32)
        nibbles = tf.gather(digits, codes)
        valid = tf.debugging.assert_less(
            nibbles, np.int64(_NO_DIGIT), "a categorical is not eight hexadecimal digits"
        )
        with tf.control_dependencies([valid] if valid is not None else []):
            weights = tf.constant([1 << 4 * digit for digit in range(7, -1, -1)], tf.int64)
            value = tf.reduce_sum(nibbles * weights, -1)
    else:
        value = tf.cast(column, tf.int64)
        missing = value < 0
    step = (field + 1) * int(FIELD_STEP) & _MASK
    mixed = _low_32(tf.where(missing, np.int64(0), value) + step)
    mixed = _multiply(_xor_shift(mixed, 16), int(MIX_1))
    mixed = _multiply(_xor_shift(mixed, 13), int(MIX_2))
    bucket = 1 + _shift_right(_xor_shift(mixed, 16) * (buckets - 1), 32)
    return tf.cast(tf.where(missing, np.int64(0), bucket), tf.int32)


def _shift_right(value: tf.Tensor, bits: int) -> tf.Tensor:
    return tf.bitwise.right_shift(value, np.int64(bits))


def _low_32(value: tf.Tensor) -> tf.Tensor:
    return tf.bitwise.bitwise_and(value, np.int64(_MASK))


def _xor_shift(value: tf.Tensor, bits: int) -> tf.Tensor:
    return tf.bitwise.bitwise_xor(value, _shift_right(value, bits))


def _multiply(value: tf.Tensor, factor: int) -> tf.Tensor:
    """Return the low 32 bits of a product, computed in halves: a signed product could overflow."""
    high = tf.bitwise.bitwise_and(value * (factor >> 16), np.int64(_HALF))
    return _low_32(value * (factor & _HALF) + tf.bitwise.left_shift(high, np.int64(16)))
