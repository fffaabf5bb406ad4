"""Have `keras.layers.Embedding` look rows up without a look at its whole table.

Keras asks for the table's shape by reading all of it. That costs nothing as long as nobody uses what
was read; where rows are caught up on the way, TensorFlow would do it for the whole table in each step.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import keras

from eai_notebook.train.row_wise.row_table import table_of

if TYPE_CHECKING:
    from collections.abc import Callable


def install() -> None:
    """Change the layer's ``call`` for tables that are updated by rows; once a process."""
    layer = keras.layers.Embedding
    if not getattr(layer, "_eai_looks_up_rows", False):
        layer.call = _by_rows(layer.call)
        layer._eai_looks_up_rows = True  # noqa: SLF001


def _by_rows(call: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(call)
    def by_rows(self: Any, inputs: Any) -> Any:
        import tensorflow as tf

        table = table_of(self._embeddings)
        if table is None or self.lora_enabled or not isinstance(inputs, tf.Tensor):
            return call(self, inputs)
        ids = inputs if inputs.dtype in (tf.int32, tf.int64) else tf.cast(inputs, tf.int32)
        rows = table.look_up(tf.where(ids < 0, ids + tf.cast(self.input_dim, ids.dtype), ids))
        return tf.cast(rows, self.compute_dtype)

    return by_rows
