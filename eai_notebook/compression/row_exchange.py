"""All-to-all lookup for row-sharded embeddings, with its backward pass.

Row i of a table is row i // N of rank i % N.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eai_notebook.collective.membership import rank, size
from eai_notebook.collective.ops import alltoall
from eai_notebook.compression.row_codec import RowCodec
from eai_notebook.compression.row_sums import distinct, sums

if TYPE_CHECKING:
    from collections.abc import Callable

    import tensorflow as tf


class RowExchange:
    """Where the rows of a batch's ids are; made by asking for them, once an id.

    `ids` are whole numbers of shape [n]; all ranks must make a route at the same time, under
    the same `name`.
    """

    def __init__(self, ids: tf.Tensor, name: str) -> None:
        import tensorflow as tf

        ranks = size()
        self._name = name
        unique, self._places = distinct(ids)
        self._count = tf.size(unique)
        owner = tf.cast(unique % ranks, tf.int32)
        rows = tf.cast(unique // ranks, tf.int32)
        order = tf.concat(tf.dynamic_partition(tf.range(self._count), owner, ranks), 0)
        self._order = order
        self._mine = tf.math.bincount(owner, minlength=ranks, maxlength=ranks)
        self._asked, self._theirs = alltoall(tf.gather(rows, order), f"{name}.ids", self._mine)

    def fetch(
        self, table: Any, wire: str, sent: Callable[[tf.Tensor], None] = lambda _: None
    ) -> tf.Tensor:
        """Return the rows of all ids, float32 [n, width], from the ranks' `table` variables.

        The gradient of a rank's table is the ranks' average. It travels as `wire`; `sent` is
        called with the bytes that leave this rank, both ways, as float64.
        """
        import tensorflow as tf

        width = int(table.shape[1])
        packing = RowCodec(wire, width, "float32", 0)
        sent(self._bytes(width, packing))
        asked = tf.gather(table, self._asked)

        @tf.custom_gradient
        def deliver(rows: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
            received, _ = alltoall(rows, f"{self._name}.rows", self._theirs)
            received = tf.ensure_shape(received, [None, width])
            position = tf.gather(tf.math.invert_permutation(self._order), self._places)

            def back(gradient: tf.Tensor) -> tf.Tensor:
                found = sums(gradient, self._places, self._count)
                ordered = tf.gather(found, self._order)
                packed = packing.pack(tf.zeros([self._count], tf.int32), ordered)
                arrived, _ = alltoall(packed, f"{self._name}.gradients", self._mine)
                return packing.unpack(arrived)[1] / float(size())

            return tf.gather(received, position), back

        return deliver(asked)

    def _bytes(self, width: int, packing: RowCodec) -> tf.Tensor:
        """Return what a training step sends: ids, the rows others asked for, gradients."""
        import tensorflow as tf

        own = rank() % size()
        out = self._count - self._mine[own]
        back = tf.reduce_sum(self._theirs) - self._theirs[own]
        with tf.device("CPU:0"):
            out, back = tf.cast(out, tf.float64), tf.cast(back, tf.float64)
            return out * (4 + packing.row_bytes) + back * (4 * width)
