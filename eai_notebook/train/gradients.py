"""The exchange of one step's gradients, dense and sparse, with its marks.

Gradients are exchanged by operations of their own, which start as soon as the few
neighbours that are stamped together are ready, while the backward pass still computes
the others; Horovod joins those that are ready together into one message.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from eai_notebook import collective
from eai_notebook.train import marks

if TYPE_CHECKING:
    from collections.abc import Sequence

    import tensorflow as tf

Sparse = Literal["rows", "merged"]
"""How a sparse gradient travels.

``"rows"``: every row as the backward pass made it, so that the optimizer sees exactly
what one process with the global batch would have seen. ``"merged"``: rows of the same
index are added up before sending and after arrival, which is far less to send where ids
repeat. Optimizers that square gradients (Adam, Ftrl, Adagrad ...) tell the two apart:
Keras squares repeated rows one by one.
"""

SPARSE: Final[tuple[Sparse, ...]] = ("rows", "merged")


@dataclass(frozen=True)
class Exchanged:
    """Reduced gradients, and what was stamped on the way.

    ``gradients`` has the inputs' order, shapes and dtypes, None where there was none.
    ``size`` is in bytes, float64. ``ready`` and ``reduced`` hold one time a group.
    """

    gradients: list[Any]
    size: tf.Tensor
    ready: list[tf.Tensor]
    reduced: list[tf.Tensor]

    def write_marks(self, applied: tf.Tensor | None = None) -> None:
        """Hand the marks to the step clock; without `applied` the update stays unknown."""
        import tensorflow as tf

        if applied is None:
            applied = tf.constant(float("nan"), tf.float64)
        marks.write(self.size, applied, self.ready, self.reduced)


def local(gradients: Sequence[Any]) -> Exchanged:
    """Return `gradients` as they are, stamped as ready; for a step without an exchange."""
    import tensorflow as tf

    ready = marks.stamp(gradients)
    missing = tf.constant(float("nan"), tf.float64)
    return Exchanged(marks.held(gradients, ready), missing, [ready], [])


def exchange(gradients: Sequence[Any], names: Sequence[str], sparse: Sparse = "rows") -> Exchanged:
    """Average `gradients` over the ranks.

    `names` are the variables', in the same order on all ranks. `gradients` are tensors,
    `tf.IndexedSlices` or None; a gradient must be None on all ranks or on none.
    """
    import tensorflow as tf

    places = [i for i, gradient in enumerate(gradients) if gradient is not None]
    results = list(gradients)
    ready, reduced, sizes = [], [], []
    for group in marks.groups(len(places)):
        members = [places[i] for i in group]
        ready.append(marks.stamp(gradients[i] for i in members))
        with tf.control_dependencies(ready[-1:]):
            averages = [_average(gradients[i], f"gradient.{i}.{names[i]}", sparse) for i in members]
        reduced.append(marks.stamp(average for average, _ in averages))
        arrived = marks.held((average for average, _ in averages), reduced[-1])
        sizes += [size for _, size in averages]
        for i, average in zip(members, arrived, strict=True):
            results[i] = average
    return Exchanged(results, _total(sizes), ready, reduced)


def _total(sizes: Sequence[Any]) -> tf.Tensor:
    """Add up sizes known now and sizes known only when the step runs."""
    import tensorflow as tf

    known = sum(size for size in sizes if isinstance(size, int))
    unknown = [size for size in sizes if not isinstance(size, int)]
    with tf.device("CPU:0"):
        return tf.add_n([tf.constant(known, tf.float64), *unknown])


def _average(gradient: Any, name: str, sparse: Sparse) -> tuple[Any, Any]:
    """Return a gradient averaged over the ranks and the bytes this rank handed over."""
    import tensorflow as tf

    if not isinstance(gradient, tf.IndexedSlices):
        dense = tf.convert_to_tensor(gradient)
        count = dense.shape.num_elements()
        width = dense.dtype.size
        size = _float(tf.size(dense)) * width if count is None else int(count) * width
        return collective.allreduce(dense, name), size
    if sparse == "merged":
        gradient = _merged(gradient)
    values = collective.allgather(gradient.values, f"{name}.values")
    indices = collective.allgather(gradient.indices, f"{name}.indices")
    values = values / tf.cast(collective.size(), values.dtype)
    result = tf.IndexedSlices(values, indices, gradient.dense_shape)
    size = _float(tf.size(gradient.values)) * gradient.values.dtype.size
    size += _float(tf.size(gradient.indices)) * gradient.indices.dtype.size
    return (_merged(result) if sparse == "merged" else result), size


def _merged(gradient: tf.IndexedSlices) -> tf.IndexedSlices:
    """Add up the rows of each index."""
    import tensorflow as tf

    indices, places = tf.unique(gradient.indices)
    values = tf.math.unsorted_segment_sum(gradient.values, places, tf.size(indices))
    return tf.IndexedSlices(values, indices, gradient.dense_shape)


def _float(count: tf.Tensor) -> tf.Tensor:
    import tensorflow as tf

    with tf.device("CPU:0"):
        return tf.cast(count, tf.float64)
