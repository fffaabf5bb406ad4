"""Wire format fp16: half precision with a running scale for each tensor.

The ring adds the halves up as they travel, so all ranks must use the same scale, and the sum
must fit. When it does not, the exchange is made again in single precision, in the same step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np

from eai_notebook.collective.membership import size
from eai_notebook.collective.ops import allreduce
from eai_notebook.compression import number_codecs
from eai_notebook.compression.wire_format import DenseAverage, WireFormat

if TYPE_CHECKING:
    from collections.abc import Sequence

    import tensorflow as tf

    from eai_notebook.compression.wire_format import ExchangeMemory

HEADROOM: Final = 6.0
"""Powers of two left between the largest sum seen lately and fp16's largest number."""

_BACK_OFF: Final = 4.0
_RECOVERY: Final = 0.001
_FADE: Final = 0.9
_FAINT: Final = 2.0**-10
"""A part's largest sum, scaled, below which fp16 has few bits for its smaller numbers: they
end 2**-14. It takes a fall by a million from one step to the next."""


@dataclass(frozen=True)
class HalfCost:
    """How often an exchange was made in halves and in fp32: float64 scalars, 0 or 1."""

    half: tf.Tensor
    whole: tf.Tensor


@dataclass(frozen=True)
class HalfMemory:
    """What fp16 remembers of a bucket: float32 variables, the same on all ranks.

    ``peaks`` has shape [tensors]: the largest average seen lately, -1 where unknown.
    ``headroom`` is a scalar, in powers of two.
    """

    peaks: tf.Variable
    headroom: tf.Variable


def average_fp16(
    parts: Sequence[tf.Tensor], memory: HalfMemory, name: str
) -> tuple[list[tf.Tensor], HalfCost]:
    """Return the averages of flat float32 `parts`, and what was sent.

    Every part has a scale of its own, from its running peak, so that parts of very
    different size can share a message. If the halves' sum is not finite, if a part has
    become so small that halves lose it, or if nothing is known of one yet, all are sent in
    fp32. Every rank sees the same sum, so all do.
    """
    import tensorflow as tf

    sizes = [int(part.shape[0]) for part in parts]
    peaks, headroom = memory.peaks.read_value(), memory.headroom.read_value()
    known = tf.reduce_all(peaks >= 0)
    scales = number_codecs.half_scale(peaks * float(size()), headroom)

    def narrow() -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        scaled = [tf.cast(part * scales[i], tf.float16) for i, part in enumerate(parts)]
        total = allreduce(tf.concat(scaled, 0), f"{name}.half", average=False)
        total = tf.cast(total, tf.float32)
        tops = tf.stack([tf.reduce_max(tf.abs(piece)) for piece in tf.split(total, sizes)])
        # A maximum may pass over NaN; a sum does not.
        finite = tf.math.is_finite(tf.reduce_sum(tf.abs(total)))
        return total, finite, tf.reduce_all(tf.logical_or(tops >= _FAINT, tf.equal(peaks, 0.0)))

    def skipped() -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        return tf.zeros([sum(sizes)]), tf.constant(value=True), tf.constant(value=False)

    def rescaled() -> list[tf.Tensor]:
        pieces = tf.split(total, sizes)
        return [piece / (scales[i] * float(size())) for i, piece in enumerate(pieces)]

    def whole() -> list[tf.Tensor]:
        return list(tf.split(allreduce(tf.concat(list(parts), 0), f"{name}.whole"), sizes))

    total, finite, loud = tf.cond(known, narrow, skipped)
    fits = tf.logical_and(finite, loud)
    found = tf.cond(fits, rescaled, whole)
    averages = list(found) if isinstance(found, list | tuple) else [found]
    _remember(memory, averages, fits, overflow=tf.logical_not(finite))
    with tf.device("CPU:0"):
        cost = HalfCost(tf.cast(known, tf.float64), 1.0 - tf.cast(fits, tf.float64))
    return averages, cost


def _remember(
    memory: HalfMemory, averages: Sequence[tf.Tensor], fits: tf.Tensor, overflow: tf.Tensor
) -> None:
    """Follow the averages' peaks, fast up and slowly down; after an overflow leave more room.

    What came in fp32 is known exactly. Gradients that are not finite teach nothing.
    """
    import tensorflow as tf

    peaks, headroom = memory.peaks.read_value(), memory.headroom.read_value()
    now = tf.stack([tf.reduce_max(tf.abs(average)) for average in averages])
    sane = tf.math.is_finite(tf.add_n([tf.reduce_sum(tf.abs(a)) for a in averages]))
    followed = tf.where(fits, tf.maximum(now, peaks * _FADE), now)
    memory.peaks.assign(tf.where(sane, followed, peaks))
    calm = tf.maximum(headroom - _RECOVERY, HEADROOM)
    room = tf.where(overflow, headroom + _BACK_OFF, calm)
    memory.headroom.assign(tf.where(sane, room, headroom))


class Fp16(WireFormat):
    """Half precision with safe scales: half of the bytes, added up on the way."""

    name: ClassVar[str] = "fp16"
    in_auto: ClassVar[bool] = True
    row_scale: ClassVar[int | None] = 14

    def average(
        self, parts: Sequence[tf.Tensor], memory: ExchangeMemory, name: str
    ) -> DenseAverage:
        """Average in halves, or once more in single precision where halves do not do."""
        scales = HalfMemory(
            memory.common("peaks", np.full(len(parts), -1, np.float32)),
            memory.common("headroom", np.asarray(HEADROOM, np.float32)),
        )
        averages, cost = average_fp16(parts, scales, name)
        length = sum(int(part.shape[0]) for part in parts)
        handed = self.bytes_for(length) * cost.half + 4 * length * cost.whole
        return DenseAverage(averages, handed, cost.half * cost.whole)

    def bytes_for(self, count: int) -> int:
        """Return 2 bytes for each number."""
        return 2 * count

    def row_dtype(self, dtype: tf.DType) -> tf.DType:  # noqa: ARG002 -- the interface's shape
        """Return float16."""
        import tensorflow as tf

        return tf.float16

    def encode_rows(self, rows: tf.Tensor) -> tf.Tensor:
        """Return the rows in half precision."""
        import tensorflow as tf

        return tf.cast(rows, tf.float16)


FORMAT: Final = Fp16()
