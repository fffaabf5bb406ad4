"""Count the bytes that a step's exchange sends."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from eai_notebook import collective

if TYPE_CHECKING:
    from collections.abc import Sequence

    import tensorflow as tf


@dataclass
class Tally:
    """What an exchange cost: bytes this rank sent, and how often it was made again.

    Numbers that are known now, and float64 scalars that are known when the step runs.
    """

    dense: list[Any] = field(default_factory=list)
    embedding: list[Any] = field(default_factory=list)
    redone: list[Any] = field(default_factory=list)

    def marks(self) -> list[Any]:
        """Return the sums as `marks.write` wants them."""
        embedding = _total(self.embedding)
        return [_total([*self.dense, embedding]), embedding, _total(self.redone)]

    def reduced(self, handed: Any) -> None:
        """Count a dense exchange of `handed` bytes: 2(N-1)/N times as many leave each rank."""
        ranks = collective.size()
        self.dense.append(handed * (2 * (ranks - 1) / ranks))


def as_float(count: tf.Tensor) -> tf.Tensor:
    """Return a count as float64, on the host."""
    import tensorflow as tf

    with tf.device("CPU:0"):
        return tf.cast(count, tf.float64)


def _total(counts: Sequence[Any]) -> tf.Tensor:
    """Add up what is known now and what is known only when the step runs."""
    import tensorflow as tf

    known = sum(float(count) for count in counts if not tf.is_tensor(count))
    unknown = [count for count in counts if tf.is_tensor(count)]
    with tf.device("CPU:0"):
        return tf.add_n([tf.constant(known, tf.float64), *unknown])
