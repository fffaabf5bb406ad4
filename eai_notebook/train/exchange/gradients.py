"""Exchange one step's gradients, dense and sparse, with timestamps.

Gradients are exchanged by operations of their own, which start as soon as the few
neighbours that are stamped together are ready, while the backward pass still computes
the others; Horovod joins those that are ready together into one message.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eai_notebook import collective
from eai_notebook.collective import xla_context
from eai_notebook.compression.row_sums import sum_rows_by_id, sum_rows_in_order
from eai_notebook.compression.wire_registry import AUTO
from eai_notebook.errors import EaiError
from eai_notebook.train import lone_fits, matching
from eai_notebook.train.exchange import (
    buckets,
    dense,
    scatter_order,
    sparse,
    wire_autotune,
    xla_clusters,
)
from eai_notebook.train.exchange.traffic import Tally, as_float
from eai_notebook.train.recording import graph_timestamps
from eai_notebook.train.sharded import sharded_variables

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import tensorflow as tf

    from eai_notebook.train.exchange.wire_state import Wire

scatter_order.install()


@dataclass(frozen=True)
class Exchanged:
    """Reduced gradients, and what was stamped and counted on the way.

    ``gradients`` has the inputs' order, shapes and dtypes, None where there was none.
    ``counted`` are the marks before `marks.APPLIED`. ``ready`` and ``reduced`` hold one
    time a group.
    """

    gradients: list[Any]
    counted: list[Any]
    ready: list[tf.Tensor]
    reduced: list[tf.Tensor]

    def write_marks(self, applied: tf.Tensor | None = None) -> None:
        """Hand the marks to the step clock; without `applied` the update stays unknown."""
        import tensorflow as tf

        if applied is None:
            applied = tf.constant(float("nan"), tf.float64)
        graph_timestamps.write(self.counted, applied, self.ready, self.reduced)


def local(gradients: Sequence[Any], wire: Wire) -> Exchanged:
    """Return `gradients` as they are, stamped as ready; for a step without an exchange.

    Rows are added up here, too, so that one rank trains as many do.
    """
    import tensorflow as tf

    if not xla_context.is_compiled():  # by itself, a step may be compiled as a whole
        xla_clusters.compile_so_far()
    if wire.sparse == "merged":
        gradients = [merged(gradient) for gradient in gradients]
    ready = graph_timestamps.stamp(gradients)
    missing = tf.constant(float("nan"), tf.float64)
    return Exchanged(
        graph_timestamps.held(gradients, ready), [missing] * graph_timestamps.APPLIED, [ready], []
    )


def exchange(gradients: Sequence[Any], names: Sequence[str], wire: Wire) -> Exchanged:
    """Average `gradients` over the ranks.

    `names` are the variables', in the same order on all ranks. `gradients` are tensors,
    `tf.IndexedSlices` or None; a gradient must be None on all ranks or on none.

    Raises:
        EaiError: A gradient of whole numbers, and a format other than fp32.

    """
    import tensorflow as tf

    given = {
        position: g if isinstance(g, tf.IndexedSlices) else tf.convert_to_tensor(g)
        for position, g in enumerate(gradients)
        if g is not None
    }
    _check(given, names, wire)
    rows = [position for position, g in given.items() if isinstance(g, tf.IndexedSlices)]
    lengths = {
        position: g.shape.num_elements() for position, g in given.items() if position not in rows
    }
    results = list(gradients)
    ready, reduced, tally = [], [], Tally()
    if wire.format == AUTO:
        wire.now = wire_autotune.now(wire)
    for group in buckets.plan(lengths, rows, narrow=not wire.is_exact):
        members = group.positions
        ready.append(graph_timestamps.stamp(given[position] for position in members))
        with tf.control_dependencies(ready[-1:]):
            averages = dense.average(group, given, wire, tally)
            averages |= _sparse(group.sparse, given, names, wire, tally)
        reduced.append(graph_timestamps.stamp(averages[position] for position in members))
        arrived = graph_timestamps.held((averages[position] for position in members), reduced[-1])
        for position, average in zip(members, arrived, strict=True):
            results[position] = average
    if wire.format == AUTO:
        wire_autotune.note(wire, wire_autotune.ready_time(given.values()))
    if graph_timestamps.runs_one_at_a_time():
        results = graph_timestamps.held_together(results)
    if wire.sparse == "merged":
        results = [scatter_order.note_distinct(result) for result in results]
    return Exchanged(results, tally.marks(), ready, reduced)


def exchange_copies(gradients: Sequence[Any], variables: Sequence[Any], wire: Wire) -> Exchanged:
    """Average the gradients of variables that every rank has; names may stand for them.

    Ranks may give them in different orders, see `matching`. Those of parts of larger tables
    are left as they are, for their rank: what was sent for them, in the model's own lookups,
    is counted here.

    Raises:
        EaiError: The ranks have gradients of different variables; on all of them.

    """
    xla_clusters.compile_so_far()
    lone_fits.note_exchange()
    order = matching.agree(gradients, variables)
    whole = sharded_variables.without_parts(gradients, variables)
    with collective.name_scope(order.scope):
        exchanged = exchange(order.sort(whole), order.names, wire)
    exchanged.gradients[:] = order.back(exchanged.gradients)
    for position, variable in enumerate(variables):
        if sharded_variables.shard_of(variable) is not None:
            own = gradients[position]
            exchanged.gradients[position] = (
                scatter_order.note_distinct(merged(own)) if wire.sparse == "merged" else own
            )
    sent = sharded_variables.bytes_sent(variables)
    if sent is not None:
        exchanged.counted[graph_timestamps.BYTES] += sent
        exchanged.counted[graph_timestamps.EMBEDDING] += sent
    return exchanged


def _check(given: Mapping[int, Any], names: Sequence[str], wire: Wire) -> None:
    for position, gradient in given.items():
        if not wire.is_exact and not gradient.dtype.is_floating:
            raise EaiError(
                f"the gradient of `{names[position]}` is {gradient.dtype.name}: whole numbers "
                f"cannot travel as {wire.format}",
                'train floating-point variables, or use wire="fp32"',
                code="integer-gradient",
            )


def _sparse(
    positions: Sequence[int],
    given: Mapping[int, Any],
    names: Sequence[str],
    wire: Wire,
    tally: Tally,
) -> dict[int, Any]:
    """Average sparse gradients: rows added up, or every row as it is."""
    joined = [p for p in positions if wire.sparse == "merged" and sparse.can_join(given[p])]
    averages = sparse.average(joined, given, wire, tally)
    for position in sorted(set(positions) - set(joined)):
        averages[position] = _rows(given[position], f"{position}.{names[position]}", wire, tally)
    return averages


def _rows(gradient: tf.IndexedSlices, name: str, wire: Wire, tally: Tally) -> tf.IndexedSlices:
    """Average one sparse gradient by itself: all rows, or a table whose size is not known."""
    import tensorflow as tf

    if wire.sparse == "merged":
        gradient = merged(gradient)
    values = collective.allgather(gradient.values, f"gradient.{name}.values")
    indices = collective.allgather(gradient.indices, f"gradient.{name}.indices")
    values = values / tf.cast(collective.size(), values.dtype)
    result = tf.IndexedSlices(values, indices, gradient.dense_shape)
    size = as_float(tf.size(gradient.values)) * gradient.values.dtype.size
    size += as_float(tf.size(gradient.indices)) * gradient.indices.dtype.size
    tally.embedding.append(size * (collective.size() - 1))
    return _summed(result) if wire.sparse == "merged" else result


def _summed(gradient: tf.IndexedSlices) -> tf.IndexedSlices:
    """Return all ranks' rows with those of each index added up, with the same bits on every rank."""
    import tensorflow as tf

    indices, values = sum_rows_in_order(gradient.indices, gradient.values)
    return tf.IndexedSlices(values, indices, gradient.dense_shape)


def merged(gradient: Any) -> Any:
    """Return a sparse gradient with the rows of each index added up; others as they are."""
    import tensorflow as tf

    if not isinstance(gradient, tf.IndexedSlices):
        return gradient
    indices, values = sum_rows_by_id(gradient.indices, gradient.values, exact=False)
    return tf.IndexedSlices(values, indices, gradient.dense_shape)
