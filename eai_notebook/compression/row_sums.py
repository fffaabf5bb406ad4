"""Deduplicate embedding ids and sum the rows of each.

A step's embedding gradients have a row for every time an id was looked up: hundreds of thousands,
of which a twentieth may be distinct.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import tensorflow as tf

_PIECES: Final = 8
"""Pieces of a step's ids that are gone through one by one: 4 to 16 take the same time."""
_WIDE: Final = 32
"""Numbers a row from which TensorFlow's two ways to add up take the same time."""


def sum_rows_by_id(
    ids: tf.Tensor, rows: tf.Tensor, *, exact: bool = True
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return each id once, in the order of its first appearance, and the sum of its rows.

    The most frequent id may have thousands of rows, so they are added up in float64. Where the
    sum is rounded to 16 or 8 bits next, what float32 loses of it (a few millionths) is not worth
    twice the time: `exact` may be False.
    """
    import tensorflow as tf

    unique, positions = distinct(ids)
    summed = tf.cast(rows, tf.float64) if exact else rows
    summed = sums(summed, positions, tf.size(unique))
    return unique, tf.cast(summed, rows.dtype)


def sum_rows_in_order(ids: tf.Tensor, rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Do what `sum_rows_by_id` does; where all ranks have the same rows, they get the same bits.

    On a processor TensorFlow adds up the rows of an id as they follow each other, whatever its number
    of threads; on a GPU in whatever order they come, and even float64 then rounds differently at times.
    """
    import tensorflow as tf

    with tf.device("CPU:0"):
        return sum_rows_by_id(ids, rows)


def distinct(ids: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return what `tf.unique` does, found in pieces first.

    It makes a table for as many ids as there are, though few may be distinct. That of a piece
    fits into a cache, and need not be fetched from the system, page by page, at every step.
    """
    import tensorflow as tf

    length = tf.size(ids) // _PIECES
    pieces = [ids[length * piece : length * (piece + 1)] for piece in range(_PIECES - 1)]
    found, numbers, before = [], [], tf.constant(0)
    for piece in (*pieces, ids[length * (_PIECES - 1) :]):
        unique, positions = tf.unique(piece)
        found.append(unique)
        numbers.append(positions + before)
        before += tf.size(unique)
    unique, positions = tf.unique(tf.concat(found, 0))
    return unique, tf.gather(positions, tf.concat(numbers, 0))


def sums(rows: tf.Tensor, positions: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """Return the sums of the rows that have the same position, `count` of them.

    A product with a matrix of ones and zeros takes a fraction of the time of TensorFlow's sum
    of segments where rows are narrow, and the more so the more threads there are.
    """
    import tensorflow as tf

    row, can_multiply = rows.shape[1:], rows.dtype in (tf.float32, tf.float64)
    if not (can_multiply and row.rank == 1 and 1 < (row[0] or 0) < _WIDE):
        return tf.math.unsorted_segment_sum(rows, positions, count)
    number = tf.size(positions, tf.int64)
    at = tf.stack([tf.cast(positions, tf.int64), tf.range(number)], axis=1)
    ones = tf.SparseTensor(at, tf.ones([number], rows.dtype), [tf.cast(count, tf.int64), number])
    return tf.sparse.sparse_dense_matmul(ones, rows)
