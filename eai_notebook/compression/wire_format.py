"""`WireFormat`: the interface of the number formats that gradients travel in.

Another package adds one by an entry point in the group ``eai_notebook.wire_formats`` whose name
is the format's and whose value is a class without arguments (see `docs/extending.md`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import tensorflow as tf


class ExchangeMemory(Protocol):
    """Variables that a format keeps for one message from step to step.

    They are saved with the optimizer and emptied when a new ring is formed.
    """

    def common(self, kind: str, initial: np.ndarray) -> tf.Variable:
        """Return a variable that has the same value on all ranks, such as a scale."""

    def own(self, initial: np.ndarray) -> tf.Variable:
        """Return this rank's own variable: what it still has to send (error feedback)."""


@dataclass(frozen=True)
class DenseAverage:
    """The average of one message over the ranks.

    Attributes:
        parts: Flat float32 averages, in the order and lengths that were given.
        handed: Bytes handed to the collective; an int, or a float64 scalar known in the step.
        redone: How often the exchange was made again, float64; None where it never is.
    """

    parts: list[tf.Tensor]
    handed: Any
    redone: Any = None


class WireFormat(ABC):
    """One number format: how a message is averaged in it, and how rows of tables are encoded.

    All ranks call the methods for the same messages in the same order while a step is traced.

    Attributes:
        name: What ``wire=`` names; the entry point has the same name.
        is_exact: Numbers keep their own format: nothing is rounded and nothing is cast.
        in_auto: ``wire="auto"`` tries it.
        without_memory: It needs no memory, so rows that have none may travel in it (those of
            `ShardedEmbedding`).
        row_scale: The power of two that a row's largest number is brought to before it is
            encoded; None for rows without a scale of their own.
    """

    name: ClassVar[str]
    is_exact: ClassVar[bool] = False
    in_auto: ClassVar[bool] = False
    without_memory: ClassVar[bool] = True
    row_scale: ClassVar[int | None] = None

    @abstractmethod
    def average(
        self, parts: Sequence[tf.Tensor], memory: ExchangeMemory, name: str
    ) -> DenseAverage:
        """Return the average over all ranks of flat float32 `parts` of known lengths.

        Args:
            parts: One tensor for each gradient, or part of one, in this message.
            memory: The message's variables.
            name: A name that no other message of the step has, for the collectives.
        """

    @abstractmethod
    def bytes_for(self, count: int) -> int:
        """Return the bytes that stand for `count` numbers of one part, padding included."""

    @abstractmethod
    def row_dtype(self, dtype: tf.DType) -> tf.DType:
        """Return the dtype that a number of a row of `dtype` is encoded in."""

    @abstractmethod
    def encode_rows(self, rows: tf.Tensor) -> tf.Tensor:
        """Return rows [n, width], scaled by `row_scale`, in `row_dtype`.

        A row that is not finite must not be finite after `decode_rows`, either.
        """

    def decode_rows(self, rows: tf.Tensor) -> tf.Tensor:
        """Return what `encode_rows` gave as float32, rounded as the format rounds."""
        import tensorflow as tf

        return tf.cast(rows, tf.float32)
