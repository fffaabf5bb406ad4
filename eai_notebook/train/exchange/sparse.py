"""Average embedding gradients: tables of equal width share one exchange.

Which of three ways a table's rows take (`collective.sparse`) follows from how many of its
rows are touched, which the steps themselves measure. All ranks must choose alike or they would
wait for each other, so the choice is made inside the step, of numbers that all of them have:
the rows in the result, and every `LOOK` steps the rows that each rank had. It takes no
exchange of its own in between.
"""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from eai_notebook import collective
from eai_notebook.compression import sparse_average
from eai_notebook.compression.row_codec import RowCodec
from eai_notebook.compression.row_sums import sum_rows_by_id
from eai_notebook.compression.wire_registry import AUTO, wire_format
from eai_notebook.train.exchange import wire_autotune

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import tensorflow as tf

    from eai_notebook.train.exchange.traffic import Tally
    from eai_notebook.train.exchange.wire_state import Wire

WAYS: Final = ("gather", "shard", "dense")
LOOK: Final = 16
"""Steps between two counts of the rows that each rank has; the first step counts, too."""
_KEPT: Final = 0.9
_MOST_IDS: Final = 2**31 - 1


@dataclass(frozen=True)
class Tables:
    """Tables of one width and dtype, as one: each table's ids begin where the last one's end."""

    positions: tuple[int, ...]
    lengths: tuple[int, ...]
    width: int
    dtype: str

    @property
    def ends(self) -> np.ndarray:
        """Where each table's ids end, int32."""
        return np.cumsum(self.lengths).astype(np.int32)

    @property
    def starts(self) -> np.ndarray:
        """Where each table's ids begin, int32."""
        return self.ends - np.array(self.lengths, np.int32)

    @property
    def key(self) -> str:
        """A name that no other tables of the step have."""
        return ",".join(map(str, self.positions))


def average(
    positions: Sequence[int], given: Mapping[int, Any], wire: Wire, tally: Tally
) -> dict[int, Any]:
    """Return the averages of the sparse gradients at `positions`, rows of an id added up."""
    found: dict[int, Any] = {}
    for tables in _alike(positions, given):
        found |= _average(tables, given, wire, tally)
    return found


def can_join(gradient: tf.IndexedSlices) -> bool:
    """Return whether the table's size is known, and small enough for ids of 32 bits."""
    shape = _shape(gradient)
    return shape is not None and shape[0] <= _MOST_IDS


def _shape(gradient: tf.IndexedSlices) -> tuple[int, int] | None:
    """Return a table's rows and numbers a row; None where the graph does not say."""
    import tensorflow as tf

    if gradient.dense_shape is None:
        return None
    shape = tf.get_static_value(gradient.dense_shape)
    if shape is None or gradient.values.shape.rank is None or shape[0] < 1:
        return None
    return int(shape[0]), int(np.prod(shape[1:], dtype=np.int64))


def _alike(positions: Sequence[int], given: Mapping[int, Any]) -> Iterator[Tables]:
    """Put tables of one width and dtype together, as many as ids of 32 bits can distinguish."""
    kinds: dict[tuple[int, str], list[tuple[int, int]]] = {}
    for position in positions:
        length, width = _shape(given[position]) or (0, 0)
        kinds.setdefault((width, given[position].dtype.name), []).append((position, length))
    for (width, dtype), members in kinds.items():
        totals = itertools.accumulate(length for _, length in members)
        numbered = zip(members, totals, strict=True)
        for _, run in itertools.groupby(numbered, lambda each: each[1] // _MOST_IDS):
            chosen, sizes = zip(*(member for member, _ in run), strict=True)
            yield Tables(chosen, sizes, width, dtype)


def _average(tables: Tables, given: Mapping[int, Any], wire: Wire, tally: Tally) -> dict[int, Any]:
    """Average the gradients of one set of tables."""
    import tensorflow as tf

    # With "auto" rows are added up and the way is chosen as for fp32; each way then takes the
    # format of the step.
    form = "fp32" if wire.format == AUTO else wire.format
    ids, rows = _joined(tables, [given[position] for position in tables.positions], wire)
    ids, rows = sum_rows_by_id(ids, rows, exact=wire_format(form).is_exact)
    table_of = _table_of(ids, tables.ends)
    packing = RowCodec(form, tables.width, rows.dtype.name, int(tables.ends[-1]))
    wire.tables[tables.key] = (tables, packing)
    choice, remember = _chosen(tables, packing, wire)
    counts = _counts(table_of, tables)
    found = []
    for way, (some_ids, some_rows) in enumerate(_by_way(ids, rows, choice, table_of)):
        taken = tf.equal(choice, way)
        exchange = _exchange(WAYS[way], some_ids, some_rows, tables, taken)
        found.append(_if(tf.reduce_any(taken), _in_format(exchange, packing, wire), rows))
    ids, rows, sent = zip(*found, strict=True)
    tally.embedding.append(tf.add_n(sent))
    ids, rows = tf.concat(ids, 0), tf.concat(rows, 0)
    table_of = _table_of(ids, tables.ends)
    remember(counts, _counts(table_of, tables))
    return _apart(tables, given, ids, rows, table_of)


def _joined(
    tables: Tables, gradients: Sequence[tf.IndexedSlices], wire: Wire
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return all tables' ids and rows as those of one table."""
    import tensorflow as tf

    kind = tf.as_dtype(tables.dtype) if wire.is_exact else tf.float32
    ids = [
        tf.cast(gradient.indices, tf.int32) + start
        for gradient, start in zip(gradients, tables.starts, strict=True)
    ]
    rows = [tf.cast(tf.reshape(g.values, [-1, tables.width]), kind) for g in gradients]
    return (ids[0], rows[0]) if len(ids) == 1 else (tf.concat(ids, 0), tf.concat(rows, 0))


def _apart(
    tables: Tables, given: Mapping[int, Any], ids: tf.Tensor, rows: tf.Tensor, table_of: tf.Tensor
) -> dict[int, Any]:
    """Return each table's rows as a gradient like the one that was given."""
    import tensorflow as tf

    local = ids - tf.gather(tf.constant(tables.starts), table_of)
    parts = _partition(local, rows, table_of, len(tables.positions))
    found = {}
    for position, (indices, values) in zip(tables.positions, parts, strict=True):
        like = given[position]
        shaped = tf.reshape(values, [-1, *tf.get_static_value(like.dense_shape)[1:]])
        found[position] = tf.IndexedSlices(
            tf.cast(shaped, like.dtype), tf.cast(indices, like.indices.dtype), like.dense_shape
        )
    return found


def _partition(
    ids: tf.Tensor, rows: tf.Tensor, parts: tf.Tensor, count: int
) -> list[tuple[tf.Tensor, tf.Tensor]]:
    """Return the ids and rows of each of `count` parts, in the order they have."""
    import tensorflow as tf

    if count == 1:
        return [(ids, rows)]
    some_ids = tf.dynamic_partition(ids, parts, count)
    return list(zip(some_ids, tf.dynamic_partition(rows, parts, count), strict=True))


def _table_of(ids: tf.Tensor, ends: Any) -> tf.Tensor:
    """Return the table that each id is of; tables without an id are passed over."""
    import tensorflow as tf

    if ends.shape[0] == 1:
        return tf.zeros_like(ids)
    return tf.searchsorted(ends, ids, side="right")


def _counts(table_of: tf.Tensor, tables: Tables) -> tf.Tensor:
    """Return how many ids each table has, float32."""
    import tensorflow as tf

    count = len(tables.positions)
    return tf.math.bincount(table_of, minlength=count, maxlength=count, dtype=tf.float32)


# ------------------------------------------------------------------------- three ways


def _by_way(
    ids: tf.Tensor, rows: tf.Tensor, choice: tf.Tensor, table_of: tf.Tensor
) -> list[tuple[tf.Tensor, tf.Tensor]]:
    """Return for each way the ids and rows of the tables that take it.

    One table takes one of them, and the others will not look at what they are given.
    """
    import tensorflow as tf

    if choice.shape[0] == 1:
        return [(ids, rows)] * len(WAYS)
    return _partition(ids, rows, tf.gather(choice, table_of), len(WAYS))


def _in_format(
    exchange: Callable[[RowCodec], sparse_average.AveragedRows], packing: RowCodec, wire: Wire
) -> Callable[[], sparse_average.AveragedRows]:
    """Return what exchanges as `packing` says, or in the format whose turn it is."""

    def one(name: str) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        found = exchange(dataclasses.replace(packing, format=name))
        return found.ids, found.rows, found.sent

    if wire.format != AUTO:
        return lambda: exchange(packing)
    return lambda: sparse_average.AveragedRows(*wire_autotune.switch(wire.now, one))


def _if(
    taken: tf.Tensor, exchange: Callable[[], sparse_average.AveragedRows], like: tf.Tensor
) -> Any:
    """Return what `exchange` finds where a table has taken this way, else nothing."""
    import tensorflow as tf

    def done() -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        found = exchange()
        return found.ids, found.rows, found.sent

    def skipped() -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        none = tf.zeros([0, like.shape[1]], like.dtype)
        return tf.zeros([0], tf.int32), none, tf.constant(0.0, tf.float64)

    return tf.cond(taken, done, skipped)


def _exchange(
    way: str, ids: tf.Tensor, rows: tf.Tensor, tables: Tables, taken: tf.Tensor
) -> Callable[[RowCodec], sparse_average.AveragedRows]:
    """Return what averages the rows of the tables that are `taken`."""
    name = f"rows.{tables.positions[0]}.{tables.width}"
    if way == "gather":
        return lambda packing: sparse_average.gather(ids, rows, packing, name)
    if way == "shard":
        return lambda packing: sparse_average.shard(ids, rows, packing, name)
    return lambda _: _dense(ids, rows, tables, taken, name)


def _dense(
    ids: tf.Tensor, rows: tf.Tensor, tables: Tables, taken: tf.Tensor, name: str
) -> sparse_average.AveragedRows:
    """Average whole tables, those that are `taken` put together and no others."""
    import tensorflow as tf

    lengths = tf.where(taken, tables.lengths, 0)
    ends = tf.cumsum(lengths)
    shift = tf.constant(tables.starts) - (ends - lengths)
    found = sparse_average.dense(
        ids - tf.gather(shift, _table_of(ids, tables.ends)), rows, tf.reduce_sum(lengths), name
    )
    return sparse_average.AveragedRows(
        found.ids + tf.gather(shift, _table_of(found.ids, ends)), found.rows, found.sent
    )


# ------------------------------------------------------------------------- the choice


def _chosen(
    tables: Tables, packing: RowCodec, wire: Wire
) -> tuple[tf.Tensor, Callable[[tf.Tensor, tf.Tensor], None]]:
    """Return each table's way, int32, and the counts to report after this step."""
    import tensorflow as tf

    unknown = np.full(len(tables.positions), -1, np.float32)
    mine = wire.variable(f"rows/{tables.key}/mine", unknown)
    union = wire.variable(f"rows/{tables.key}/union", unknown)
    steps = wire.variable(f"rows/{tables.key}/steps", np.float32(0))
    before, count = union.read_value(), steps.read_value()
    choice = best_ways(mine.read_value(), before, tables, packing)

    def remember(had: tf.Tensor, got: tf.Tensor) -> None:
        def look() -> tf.Tensor:
            return collective.allreduce(had, f"rows.{tables.positions[0]}.{tables.width}.count")

        mine.assign(tf.cond(tf.equal(count % LOOK, 0), look, mine.read_value))
        known = tf.where(before < 0, got, before)
        union.assign(_KEPT * known + (1 - _KEPT) * got)
        steps.assign((count + 1) % LOOK)

    return choice, remember


def best_ways(mine: tf.Tensor, union: tf.Tensor, tables: Tables, packing: RowCodec) -> tf.Tensor:
    """Return the cheapest way for each table, by its position in `WAYS`; ``shard`` where unknown.

    `mine` and `union` are the rows that a rank and all ranks together touch, float32, -1
    where unknown.
    """
    import tensorflow as tf

    lengths = tf.constant(tables.lengths, tf.float32)
    cost = tf.stack(sparse_average.costs(mine, union, lengths, packing))
    return tf.where(mine < 0, WAYS.index("shard"), tf.argmin(cost, axis=0, output_type=tf.int32))
