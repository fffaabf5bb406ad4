"""Mark and find sharded variables, which must not be broadcast or averaged.

The part of rank r are the rows whose number, modulo the ranks, is r. Such a variable, and an
optimizer's variables for it, carry a `Shard`; everything that treats the ranks' variables as
copies of each other asks `copies` for those that are.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import keras

from eai_notebook.errors import EaiError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import numpy as np
    import tensorflow as tf

_MARK = "_eai_shard"


@dataclass
class Shard:
    """Which rows of a table a variable holds: those of `rank` of `ranks`, of `rows` in all.

    A rank has as many as any other; beyond the table's end they stay unused.

    Examples:
        >>> shard = Shard("users", rows=10, rank=1, ranks=4)
        >>> shard.length, shard.used
        (3, 3)
    """

    name: str
    rows: int
    rank: int
    ranks: int
    sent: list[Any] = field(default_factory=list)
    """Bytes sent to others in the step that is being traced, float64 scalars."""

    @property
    def length(self) -> int:
        """How many rows a rank holds."""
        return -(-self.rows // self.ranks)

    @property
    def used(self) -> int:
        """How many of them are rows of the table."""
        return len(range(self.rank, self.rows, self.ranks))

    def take_sent(self) -> list[Any]:
        """Return what was sent in the graph that is being traced, and forget it."""
        import tensorflow as tf

        taken, self.sent = self.sent, []
        if tf.executing_eagerly():
            return [each for each in taken if not hasattr(each, "graph")]
        here = tf.compat.v1.get_default_graph()
        return [each for each in taken if getattr(each, "graph", None) is here]


def mark(variable: Any, shard: Shard) -> None:
    """Say that `variable` is a part of something larger."""
    setattr(variable, _MARK, shard)


def shard_of(variable: Any) -> Shard | None:
    """Return what part a variable is, None if it is whole.

    Examples:
        >>> shard_of(object()) is None
        True
    """
    return getattr(variable, _MARK, None)


def rows_of(variable: tf.Variable, first: int, last: int) -> np.ndarray:
    """Return rows `first` to `last` - 1.

    ``variable[first:last]`` reads the whole variable first; once rows of it have been
    updated by themselves, that is a copy.
    """
    import tensorflow as tf

    found: np.ndarray = tf.gather(variable, tf.range(first, last)).numpy()
    return found


def put_rows(variable: tf.Variable, first: int, rows: Any) -> None:
    """Set rows from `first` on, in place, where ``variable[first:].assign(rows)`` copies."""
    import tensorflow as tf

    tf.raw_ops.ResourceStridedSliceAssign(
        ref=variable.handle,
        begin=[first],
        end=[first + len(rows)],
        strides=[1],
        value=rows,
    )


def copies(variables: Iterable[Any]) -> list[Any]:
    """Return those of `variables` of which every rank has all, in their order."""
    return [variable for variable in variables if shard_of(variable) is None]


def parts(variables: Iterable[Any]) -> list[Any]:
    """Return those of `variables` of which every rank has its own part, in their order."""
    return [variable for variable in variables if shard_of(variable) is not None]


def mark_slots(slots: Iterable[Any], variables: Sequence[Any]) -> None:
    """Mark the optimizer's variables that Keras has made for a part in `variables`.

    They are known by their names, which Keras makes of the variable's path, and shapes.
    """
    for variable in parts(variables):
        begin = variable.path.replace("/", "_") + "_"
        for slot in slots:
            same = tuple(slot.shape) == tuple(variable.shape)
            if same and slot.path.rpartition("/")[2].startswith(begin):
                shard = shard_of(variable)
                assert shard is not None  # noqa: S101 -- for the type checker
                mark(slot, shard)


def check_optimizer(optimizer: Any, variables: Iterable[Any]) -> None:
    """Refuse an optimizer that would have to see a whole table, or decide on a rank alone.

    Raises:
        EaiError: It clips by norm, or scales the loss, and a variable is a part.
    """
    own = parts(variables)
    if not own:
        return
    for each in _inside(optimizer):
        for name in ("clipnorm", "global_clipnorm"):
            if getattr(each, name, None) is not None:
                raise EaiError(
                    f"{name} needs the gradient of all of `{own[0].path}`, and each rank has a part",
                    "use clipvalue, or keras.layers.Embedding",
                    code="sharded-clipping",
                )
        if isinstance(each, keras.optimizers.LossScaleOptimizer):
            raise EaiError(
                f"with a loss scale each rank would decide alone whether to update its part of "
                f"`{own[0].path}`",
                "leave the loss scale away (bfloat16 needs none), or use keras.layers.Embedding",
                code="sharded-loss-scale",
            )


def _inside(optimizer: Any) -> Iterator[Any]:
    """Yield an optimizer and those that it hands its work to."""
    yield optimizer
    inner = getattr(optimizer, "inner_optimizer", None)
    for each in [*([] if inner is None else [inner]), *getattr(optimizer, "parts", [])]:
        yield from _inside(each)


def without_parts(gradients: Sequence[Any], variables: Sequence[Any]) -> list[Any]:
    """Return `gradients` with None for those that are already what their rank needs."""
    return [
        None if shard_of(variable) is not None else gradient
        for gradient, variable in zip(gradients, variables, strict=True)
    ]


def bytes_sent(variables: Iterable[Any]) -> tf.Tensor | None:
    """Return the bytes sent for parts in the step that is being traced; None if there are none."""
    import tensorflow as tf

    counts = [count for variable in parts(variables) for count in _shard(variable).take_sent()]
    if not counts:
        return None
    with tf.device("CPU:0"):
        return tf.add_n(counts)


def _shard(variable: Any) -> Shard:
    shard = shard_of(variable)
    assert shard is not None  # noqa: S101 -- for the type checker
    return shard
