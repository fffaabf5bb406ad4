"""Average dense gradients over all ranks in 16 or 8 bits.

Two ways, equal in bytes. fp16 goes through the ring like fp32, which adds the halves up as
they travel: it needs a scale that all ranks share, and room for the sum. bf16 and int8
cannot be added up on the way; each rank gets its stretch of everybody's codes (alltoall),
adds them in fp32, and sends the sum's codes to all (allgather).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from eai_notebook.collective.membership import rank, size
from eai_notebook.collective.ops import allgather, allreduce, alltoall
from eai_notebook.compression import number_codecs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import tensorflow as tf

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


def average_bf16(flat: tf.Tensor, name: str) -> tf.Tensor:
    """Return the average of flat float32 over the ranks, sent as bfloat16, added in fp32."""
    length = int(flat.shape[0])
    rows = _padded(flat, 1)
    average, _ = _by_codes(rows, number_codecs.to_bfloat16, number_codecs.from_bfloat16, name)
    return _flat(average, length)


def average_int8(flat: tf.Tensor, owed: tf.Variable, name: str) -> tf.Tensor:
    """Return the average of flat float32 over the ranks, sent as int8, added in fp32.

    What rounding takes away is remembered in `owed` (float32, the shape of `flat`) and sent
    with the next gradient, so that over the steps nothing is lost (error feedback: Seide
    et al. 2014; Karimireddy et al. 2019, arXiv:1901.09847). The rounding of the sum is
    owed by the rank that made it.
    """
    import tensorflow as tf

    length = int(flat.shape[0])
    rows = _padded(flat + owed.read_value(), number_codecs.BLOCK)
    width = int(rows.shape[1])

    def decode(coded: tf.Tensor) -> tf.Tensor:
        return number_codecs.from_int8(coded, width)

    sent: list[tf.Tensor] = []

    def encode(values: tf.Tensor) -> tf.Tensor:
        sent.append(number_codecs.to_int8(values))
        return sent[-1]

    average, total = _by_codes(rows, encode, decode, name)
    short = rows - decode(sent[0])
    mine = (total - decode(sent[1])) * float(size())
    left = tf.tensor_scatter_nd_add(short, [[rank() % size()]], mine)
    owed.assign(_flat(_finite(left), length))
    return _flat(average, length)


def _finite(values: tf.Tensor) -> tf.Tensor:
    """Return `values` with zeros for what is not finite: the step shows it, the next must not.

    Nearly always all are finite, which one look at their sum tells.
    """
    import tensorflow as tf

    def cleaned() -> tf.Tensor:
        return tf.where(tf.math.is_finite(values), values, tf.zeros_like(values))

    return tf.cond(tf.math.is_finite(tf.reduce_sum(values)), lambda: values, cleaned)


def bf16_bytes(length: int) -> int:
    """Return the bytes that stand for `length` numbers in `average_bf16`, padding included."""
    return 2 * size() * -(-length // size())


def int8_bytes(length: int) -> int:
    """Return the bytes that stand for `length` numbers in `average_int8`, padding included.

    Of these, like of an allreduce's, 2(N-1)/N times as many leave each rank.
    """
    ranks = size()
    unit = ranks * number_codecs.BLOCK
    return ranks * number_codecs.int8_width(-(-length // unit) * number_codecs.BLOCK)


def _by_codes(
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


def _padded(flat: tf.Tensor, unit: int) -> tf.Tensor:
    """Return `flat` as [size, width], `width` a multiple of `unit`, zeros at the end."""
    import tensorflow as tf

    length = int(flat.shape[0])
    width = -(-length // (size() * unit)) * unit
    short = width * size() - length
    return tf.reshape(tf.pad(flat, [[0, short]]) if short else flat, [size(), width])


def _flat(rows: tf.Tensor, length: int) -> tf.Tensor:
    import tensorflow as tf

    return tf.reshape(rows, [-1])[:length]
