"""Average sparse embedding gradients over all ranks, in three ways.

``gather``: every rank sends its rows to all, and each adds them up. ``shard``: a row's rank,
its id modulo their number, gets it from all, adds them up and sends the sum to all: less to
send the more ids the ranks have in common. ``dense``: the ring adds up whole tables, which
is the least once most rows are touched.

Rows travel packed, ids included. What a rank sends to itself is rounded like all else, so
that every rank gets the same bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from eai_notebook.collective.membership import rank, size
from eai_notebook.collective.ops import allreduce, alltoall
from eai_notebook.compression.row_codec import RowCodec
from eai_notebook.compression.row_sums import sum_rows_by_id, sum_rows_in_order

if TYPE_CHECKING:
    import tensorflow as tf


@dataclass(frozen=True)
class AveragedRows:
    """Averaged rows: int32 ids [n], each once; rows [n, width]; bytes this rank sent, float64."""

    ids: tf.Tensor
    rows: tf.Tensor
    sent: tf.Tensor


def gather(ids: tf.Tensor, rows: tf.Tensor, packing: RowCodec, name: str) -> AveragedRows:
    """Average merged rows by sending each rank's to all."""
    import tensorflow as tf

    packed = packing.pack(ids, rows)
    received, _ = _to_all(packed, f"{name}.gather")
    ids, rows = sum_rows_in_order(*packing.unpack(received))
    return AveragedRows(ids, _mean(rows), _bytes(tf.size(packed)) * (size() - 1))


def shard(ids: tf.Tensor, rows: tf.Tensor, packing: RowCodec, name: str) -> AveragedRows:
    """Average merged rows by way of the rank that each belongs to."""
    import tensorflow as tf

    ranks = size()
    # A quotient is smaller than an id, so more tables' ids fit into three bytes.
    short = RowCodec(packing.format, packing.width, packing.dtype, -(-packing.ids // ranks))
    owner = ids % ranks
    packed = short.pack(ids // ranks, rows)
    splits = tf.math.bincount(owner, minlength=ranks, maxlength=ranks)
    ordered = tf.concat(tf.dynamic_partition(packed, owner, ranks), 0)
    received, _ = alltoall(ordered, f"{name}.scatter", splits)
    mine, sums = sum_rows_by_id(*short.unpack(received))
    result = short.pack(mine, _mean(sums))
    received, lengths = _to_all(result, f"{name}.sums")
    ids, rows = short.unpack(received)
    ids = ids * ranks + tf.repeat(tf.range(ranks), lengths)
    away = tf.size(packed) - splits[rank() % ranks] * short.row_bytes
    return AveragedRows(ids, rows, _bytes(away) + _bytes(tf.size(result)) * (ranks - 1))


def dense(ids: tf.Tensor, rows: tf.Tensor, length: tf.Tensor, name: str) -> AveragedRows:
    """Average rows of tables that have `length` rows together, by adding up whole tables.

    Rows of zeros come back as not touched.
    """
    import tensorflow as tf

    width = rows.shape[1]
    whole = tf.scatter_nd(ids[:, None], rows, tf.stack([length, width]))
    mean = allreduce(whole, f"{name}.dense")
    # NaN is not zero, so a row with one counts as touched.
    touched = tf.where(tf.reduce_any(tf.not_equal(mean, 0), axis=1))[:, 0]
    sent = _bytes(tf.size(mean)) * (mean.dtype.size * 2 * (size() - 1) / size())
    return AveragedRows(tf.cast(touched, tf.int32), tf.gather(mean, touched), sent)


def costs(
    mine: tf.Tensor, union: tf.Tensor, table: tf.Tensor, packing: RowCodec
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Return the bytes a rank sends for each table if gathered, sharded, or dense.

    All are float32 of shape [tables]: rows a rank touches, rows that all touch together, and
    rows there are.
    """
    import tensorflow as tf

    ranks = size()
    row = packing.row_bytes
    number = tf.as_dtype(packing.dtype).size
    gathered = mine * (row * (ranks - 1))
    sharded = (mine + union) * (row * (ranks - 1) / ranks)
    return gathered, sharded, table * (packing.width * number * 2 * (ranks - 1) / ranks)


def _to_all(packed: tf.Tensor, name: str) -> tuple[tf.Tensor, tf.Tensor]:
    """Return all ranks' rows in rank order, and how many each had.

    An allgather would send as much, but does not return how much came from each rank.
    """
    import tensorflow as tf

    lengths = tf.fill([size()], tf.shape(packed)[0])
    return alltoall(tf.tile(packed, [size(), 1]), name, lengths)


def _mean(rows: tf.Tensor) -> tf.Tensor:
    import tensorflow as tf

    return rows / tf.cast(size(), rows.dtype)


def _bytes(count: tf.Tensor) -> tf.Tensor:
    """Return a count as float64, on the host."""
    import tensorflow as tf

    with tf.device("CPU:0"):
        return tf.cast(count, tf.float64)
