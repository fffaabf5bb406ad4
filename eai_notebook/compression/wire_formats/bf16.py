"""Wire format bf16: bfloat16 numbers, added up in single precision."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from eai_notebook.collective.membership import size
from eai_notebook.compression import number_codecs
from eai_notebook.compression.coded_average import average_by_codes, flat, padded
from eai_notebook.compression.wire_format import DenseAverage, WireFormat

if TYPE_CHECKING:
    from collections.abc import Sequence

    import tensorflow as tf

    from eai_notebook.compression.wire_format import ExchangeMemory


class Bf16(WireFormat):
    """The range of single precision with 8 bits of mantissa: no scale is needed."""

    name: ClassVar[str] = "bf16"

    def average(
        self,
        parts: Sequence[tf.Tensor],
        memory: ExchangeMemory,  # noqa: ARG002 -- the interface's shape
        name: str,
    ) -> DenseAverage:
        """Send bfloat16, add in float32."""
        import tensorflow as tf

        lengths = [int(part.shape[0]) for part in parts]
        rows = padded(tf.concat(list(parts), 0), 1)
        mean, _ = average_by_codes(
            rows, number_codecs.to_bfloat16, number_codecs.from_bfloat16, name
        )
        whole = flat(mean, sum(lengths))
        return DenseAverage(list(tf.split(whole, lengths)), self.bytes_for(sum(lengths)))

    def bytes_for(self, count: int) -> int:
        """Return 2 bytes for each number, filled up to a multiple of the ranks."""
        return 2 * size() * -(-count // size())

    def row_dtype(self, dtype: tf.DType) -> tf.DType:  # noqa: ARG002 -- the interface's shape
        """Return bfloat16."""
        import tensorflow as tf

        return tf.bfloat16

    def encode_rows(self, rows: tf.Tensor) -> tf.Tensor:
        """Return the rows as bfloat16."""
        import tensorflow as tf

        return tf.cast(rows, tf.bfloat16)


FORMAT: Final = Bf16()
