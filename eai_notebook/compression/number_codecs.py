"""Number codecs: float32 to int8, int4, float16 and bfloat16 and back, with scales.

All of it is TensorFlow, so that it runs on the device that has the gradient, in the threads
of the step; NumPy casts to half precision at a fifth of the speed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    import tensorflow as tf

BLOCK: Final = 256
"""Numbers that share one int8 scale: the scales add 4 bytes to 256."""

NARROW_BLOCK: Final = 32
"""Numbers that share one int4 scale: the scales add 2 bytes to 16."""

_LARGEST: Final = 127.0
_NARROW_LARGEST: Final = 7.0
_HALF_MAX: Final = 65504.0
_SCALE_BYTES: Final = 4
_NARROW_SCALE_BYTES: Final = 2
_EXPONENT: Final = 100
"""Scales are at most 2**100 and at least 2**-100: both they and their inverse are normal."""


def int8_width(length: int) -> int:
    """Return the bytes of `length` numbers, a multiple of `BLOCK`, as `to_int8` codes them.

    Examples:
        >>> int8_width(512)
        520
    """
    return length + length // BLOCK * _SCALE_BYTES


def to_int8(values: tf.Tensor) -> tf.Tensor:
    """Return float32 [rows, length] as int8 [rows, int8_width(length)], scales at the end.

    Each block of `BLOCK` numbers is divided by its largest and rounded to 127 steps on
    either side of zero. A block with a number that is not finite comes back as NaN, and so
    does one with numbers beyond 3e38/127.
    """
    import tensorflow as tf

    rows, length = values.shape
    blocks = tf.reshape(values, [rows, length // BLOCK, BLOCK])
    largest = tf.reduce_max(tf.abs(blocks), axis=2, keepdims=True)
    # A maximum may pass over NaN; a sum does not.
    poisoned = tf.reduce_sum(blocks * 0.0, axis=2, keepdims=True)
    scales = largest / _LARGEST + poisoned
    inverse = tf.math.divide_no_nan(tf.ones_like(scales), scales)
    # Below 1e-36 the inverse would overflow; such a block counts as zeros.
    inverse = tf.where(tf.math.is_inf(inverse), tf.zeros_like(inverse), inverse)
    codes = tf.cast(tf.round(blocks * inverse), tf.int8)
    sidecar = tf.reshape(tf.bitcast(scales[:, :, 0], tf.int8), [rows, -1])
    return tf.concat([tf.reshape(codes, [rows, length]), sidecar], axis=1)


def from_int8(coded: tf.Tensor, length: int) -> tf.Tensor:
    """Return what `to_int8` made of float32 [rows, length], with its rounding."""
    import tensorflow as tf

    rows = coded.shape[0]
    scales = tf.bitcast(
        tf.reshape(coded[:, length:], [rows, length // BLOCK, 1, _SCALE_BYTES]), tf.float32
    )
    blocks = tf.cast(tf.reshape(coded[:, :length], [rows, length // BLOCK, BLOCK]), tf.float32)
    return tf.reshape(blocks * scales, [rows, length])


def int4_width(length: int) -> int:
    """Return the bytes of `length` numbers, a multiple of `NARROW_BLOCK`, as `to_int4` codes them.

    Examples:
        >>> int4_width(512)
        288
    """
    return length // 2 + length // NARROW_BLOCK * _NARROW_SCALE_BYTES


def to_int4(values: tf.Tensor) -> tf.Tensor:
    """Return float32 [rows, length] as int8 [rows, int4_width(length)], scales at the end.

    As `to_int8`, with 7 steps on either side of zero, blocks of `NARROW_BLOCK` numbers, two numbers
    in a byte and scales in bfloat16.
    """
    import tensorflow as tf

    rows, length = values.shape
    blocks = tf.reshape(values, [rows, length // NARROW_BLOCK, NARROW_BLOCK])
    largest = tf.reduce_max(tf.abs(blocks), axis=2, keepdims=True)
    poisoned = tf.reduce_sum(blocks * 0.0, axis=2, keepdims=True)
    # Coded with the scale as it arrives: its rounding costs no more than the last step.
    scales = tf.cast(largest / _NARROW_LARGEST + poisoned, tf.bfloat16)
    used = tf.cast(scales, tf.float32)
    inverse = tf.math.divide_no_nan(tf.ones_like(used), used)
    inverse = tf.where(tf.math.is_inf(inverse), tf.zeros_like(inverse), inverse)
    steps = tf.clip_by_value(tf.round(blocks * inverse), -_NARROW_LARGEST, _NARROW_LARGEST)
    codes = tf.cast(tf.cast(steps, tf.int32) + 8, tf.uint8)
    low, high = tf.split(codes, 2, axis=2)
    packed = tf.bitcast(tf.bitwise.bitwise_or(low, tf.bitwise.left_shift(high, 4)), tf.int8)
    sidecar = tf.reshape(tf.bitcast(scales[:, :, 0], tf.int8), [rows, -1])
    return tf.concat([tf.reshape(packed, [rows, length // 2]), sidecar], axis=1)


def from_int4(coded: tf.Tensor, length: int) -> tf.Tensor:
    """Return what `to_int4` made of float32 [rows, length], with its rounding."""
    import tensorflow as tf

    rows, blocks = coded.shape[0], length // NARROW_BLOCK
    scales = tf.bitcast(
        tf.reshape(coded[:, length // 2 :], [rows, blocks, 1, _NARROW_SCALE_BYTES]), tf.bfloat16
    )
    packed = tf.bitcast(coded[:, : length // 2], tf.uint8)
    packed = tf.reshape(packed, [rows, blocks, NARROW_BLOCK // 2])
    codes = tf.concat([tf.bitwise.bitwise_and(packed, 15), tf.bitwise.right_shift(packed, 4)], 2)
    numbers = tf.cast(codes, tf.float32) - 8.0
    return tf.reshape(numbers * tf.cast(scales, tf.float32), [rows, length])


class BlockCodec(NamedTuple):
    """A code of whole numbers in blocks that share a scale."""

    block: int
    width: Callable[[int], int]
    """From numbers, a multiple of `block`, to bytes."""
    encode: Callable[[tf.Tensor], tf.Tensor]
    decode: Callable[[tf.Tensor, int], tf.Tensor]


INT8: Final = BlockCodec(BLOCK, int8_width, to_int8, from_int8)
INT4: Final = BlockCodec(NARROW_BLOCK, int4_width, to_int4, from_int4)


def to_bfloat16(values: tf.Tensor) -> tf.Tensor:
    """Return float32 as bfloat16, in int16: MPI does not know bfloat16, only its bits."""
    import tensorflow as tf

    return tf.bitcast(tf.cast(values, tf.bfloat16), tf.int16)


def from_bfloat16(bits: tf.Tensor) -> tf.Tensor:
    """Return the float32 values of `to_bfloat16`'s bits."""
    import tensorflow as tf

    return tf.cast(tf.bitcast(bits, tf.bfloat16), tf.float32)


def half_scale(peak: tf.Tensor, headroom: tf.Tensor | float) -> tf.Tensor:
    """Return powers of two that bring `peak` to 65504 / 2**headroom at most.

    A power of two, so that scaling costs no precision. A peak of zero gets the largest
    one: what comes after silence may be very small.
    """
    import tensorflow as tf

    room = tf.math.log(_HALF_MAX / tf.maximum(peak, 1e-37)) / tf.math.log(2.0) - headroom
    exponent = tf.cast(tf.floor(tf.clip_by_value(room, -_EXPONENT, _EXPONENT)), tf.int32)
    return power_of_two(exponent)


def power_of_two(exponent: tf.Tensor) -> tf.Tensor:
    """Return 2**exponent exactly, float32, made of its bits; int32 from -126 to 127."""
    import tensorflow as tf

    return tf.bitcast(tf.bitwise.left_shift(exponent + 127, 23), tf.float32)
