"""Some rows of a variable, which a Keras optimizer updates as if they were the variable."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    import tensorflow as tf


class RowView:
    """Rows of `variable` as a tensor that can be assigned to; nothing is written back.

    Args:
        variable: The Keras or TensorFlow variable that the rows are of.
        rows: Its rows, of shape ``[n, ...]`` and the variable's dtype.

    Examples:
        >>> import keras, tensorflow as tf
        >>> view = RowView(keras.Variable([[1.0], [2.0]]), tf.constant([[2.0]]))
        >>> view.assign_add(view * 2)
        >>> float(view.value[0, 0])
        6.0
    """

    def __init__(self, variable: Any, rows: tf.Tensor) -> None:
        plain = getattr(variable, "_value", variable)
        self._unique_id = plain._unique_id  # noqa: SLF001 -- by which Keras finds its slots
        self.name = variable.name
        self.path = getattr(variable, "path", variable.name)
        self.dtype = rows.dtype.name
        self.value = rows

    @property
    def shape(self) -> Any:
        """The shape of the rows."""
        return self.value.shape

    def assign(self, value: Any) -> None:
        """Make the rows `value`."""
        import tensorflow as tf

        self.value = tf.cast(value, self.value.dtype)

    def assign_add(self, value: Any) -> None:
        """Add `value` to the rows."""
        import tensorflow as tf

        self.value += tf.cast(value, self.value.dtype)

    def assign_sub(self, value: Any) -> None:
        """Subtract `value` from the rows."""
        import tensorflow as tf

        self.value -= tf.cast(value, self.value.dtype)

    def __tf_tensor__(self, dtype: Any = None, name: str | None = None) -> tf.Tensor:
        """Return the rows, wherever TensorFlow wants a tensor."""
        import tensorflow as tf

        return tf.convert_to_tensor(self.value, dtype=dtype, name=name)

    def __neg__(self) -> tf.Tensor:
        """Return the rows with the other sign."""
        return -self.value


def _forwarded(operation: Callable[[Any, Any], Any], *, swapped: bool) -> Callable[..., Any]:
    def apply(self: RowView, other: Any) -> Any:
        value = other.value if isinstance(other, RowView) else other
        return operation(value, self.value) if swapped else operation(self.value, value)

    return apply


for _name in ("add", "sub", "mul", "truediv", "pow"):
    _operation = getattr(operator, _name)
    setattr(RowView, f"__{_name}__", _forwarded(_operation, swapped=False))
    setattr(RowView, f"__r{_name}__", _forwarded(_operation, swapped=True))
