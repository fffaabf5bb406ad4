"""Have Keras's optimizers add rows to a table in a fixed order, so that replicas keep equal bits.

TensorFlow's scatter-add works on several threads where there are 1024 rows and more, and adds those of
one index in the order in which the threads come to them. So ranks with the same gradient, in which
an index has several rows, would get sums that differ by rounding, and drift apart.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Final

import keras

from eai_notebook import collective
from eai_notebook.compression.row_sums import sum_rows_in_order

if TYPE_CHECKING:
    from collections.abc import Callable


_DISTINCT: Final = "_eai_distinct"


def install() -> None:
    """Have all Keras optimizers of ranks add up the rows of an index before they scatter them."""
    optimizer = keras.optimizers.Optimizer
    if getattr(optimizer, "_eai_adds_in_order", False):
        return
    for name in ("assign_add", "assign_sub"):
        setattr(optimizer, name, _in_order(getattr(optimizer, name)))
    optimizer._eai_adds_in_order = True  # noqa: SLF001


def note_distinct(gradient: Any) -> Any:
    """Return `gradient`; note, if it is rows, that each index is there once."""
    if (indices := getattr(gradient, "indices", None)) is not None:
        setattr(indices, _DISTINCT, True)
    return gradient


def _in_order(change: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(change)
    def changed(self: Any, variable: Any, value: Any) -> Any:
        return change(self, variable, _summed(value, variable.dtype))

    return changed


def _summed(value: Any, dtype: Any) -> Any:
    """Return rows that a variable of `dtype` is to get, each index once; all else as it is."""
    import tensorflow as tf

    if not isinstance(value, tf.IndexedSlices) or not collective.exchanges():
        return value
    if getattr(value.indices, _DISTINCT, False):
        return value
    indices, rows = sum_rows_in_order(value.indices, tf.cast(value.values, dtype))
    return tf.IndexedSlices(rows, indices, value.dense_shape)
