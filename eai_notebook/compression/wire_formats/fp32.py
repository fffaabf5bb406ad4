"""Wire format fp32: numbers travel as they were computed."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from eai_notebook.collective.ops import allreduce
from eai_notebook.compression.wire_format import DenseAverage, WireFormat

if TYPE_CHECKING:
    from collections.abc import Sequence

    import tensorflow as tf

    from eai_notebook.compression.wire_format import ExchangeMemory


class Fp32(WireFormat):
    """Single precision; rows keep the dtype that they have."""

    name: ClassVar[str] = "fp32"
    is_exact: ClassVar[bool] = True
    in_auto: ClassVar[bool] = True

    def average(
        self,
        parts: Sequence[tf.Tensor],
        memory: ExchangeMemory,  # noqa: ARG002 -- the interface's shape
        name: str,
    ) -> DenseAverage:
        """Add all parts up in one allreduce."""
        import tensorflow as tf

        lengths = [int(part.shape[0]) for part in parts]
        mean = allreduce(tf.concat(list(parts), 0), name)
        return DenseAverage(list(tf.split(mean, lengths)), self.bytes_for(sum(lengths)))

    def bytes_for(self, count: int) -> int:
        """Return 4 bytes for each number."""
        return 4 * count

    def row_dtype(self, dtype: tf.DType) -> tf.DType:
        """Return the rows' own dtype."""
        return dtype

    def encode_rows(self, rows: tf.Tensor) -> tf.Tensor:
        """Return the rows as they are."""
        return rows

    def decode_rows(self, rows: tf.Tensor) -> tf.Tensor:
        """Return the rows as they came."""
        return rows


FORMAT: Final = Fp32()
