"""Average over the ranks of numbers whose codes cannot be added up on the way.

Each rank gets its stretch of everybody's codes (alltoall), adds them in float32, and sends the
sum's codes to all (allgather): the bytes of an allreduce.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from eai_notebook.collective.membership import size
from eai_notebook.collective.ops import allgather, alltoall

if TYPE_CHECKING:
    from collections.abc import Callable

    import tensorflow as tf


def average_by_codes(
    rows: tf.Tensor,
    encode: Callable[[tf.Tensor], tf.Tensor],
    decode: Callable[[tf.Tensor], tf.Tensor],
    name: str,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the ranks' average of `rows`, [size, width], and this rank's row before coding."""
    import tensorflow as tf

    mine = encode(rows)
    theirs, _ = alltoall(mine, f"{name}.scatter", tf.ones([size()], tf.int32))
    theirs = tf.reshape(theirs, mine.shape)
    average = tf.reduce_sum(decode(theirs), axis=0, keepdims=True) / float(size())
    gathered = allgather(encode(average), f"{name}.gather")
    return decode(tf.reshape(gathered, mine.shape)), average


def padded(flat: tf.Tensor, unit: int) -> tf.Tensor:
    """Return `flat` as [size, width], `width` a multiple of `unit`, zeros at the end."""
    import tensorflow as tf

    length = int(flat.shape[0])
    width = -(-length // (size() * unit)) * unit
    short = width * size() - length
    return tf.reshape(tf.pad(flat, [[0, short]]) if short else flat, [size(), width])


def flat(rows: tf.Tensor, length: int) -> tf.Tensor:
    """Return the first `length` numbers of what `padded` made."""
    import tensorflow as tf

    return tf.reshape(rows, [-1])[:length]
