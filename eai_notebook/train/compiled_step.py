"""`CompiledStep`: a compiled step that is called without a search for the graph that fits.

At each call a `tf.function` binds its arguments, describes their types and looks for the graph that was traced
for such types: 0.4 to 0.9 ms of Python, more where the processor's caches were used by others
meanwhile. A training calls one graph again and again with the same iterator, or with batches of the same shapes.
So the graph is remembered and called directly.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    import tensorflow as tf

_RESOURCE: Final = "_iterator_resource"
"""Where a `tf.data.Iterator` holds what a graph gets of it; there is no public name."""

_MOST: Final = 16
"""Shapes of batches that are remembered; data with more of them is not the same again and again."""


class CompiledStep:
    """A `tf.function` of an iterator, or of a batch and an array of times.

    It computes what the function itself would. What is not known to fit goes through the function: the first
    batch of an iterator or of a shape, composite tensors, and all calls while functions run eagerly.
    """

    def __init__(self, function: Any) -> None:
        """Call `function`, a `tf.function`."""
        import tensorflow as tf

        self._function = function
        self._runs_eagerly = tf.config.functions_run_eagerly
        self._of_iterator: Any = None
        self._iterator: weakref.ref[Any] | None = None
        self._of_batches: dict[tuple[Any, ...], Any] = {}

    def __getattr__(self, name: str) -> Any:
        """Return what the function has by a name, such as ``get_concrete_function``."""
        return getattr(self._function, name)

    def __call__(self, source: Any, times: Any = None) -> Any:
        """Make a step from an iterator or, with `times`, from a batch."""
        if times is not None:
            return self._of_batch(source, times)
        known = None if self._iterator is None else self._iterator()
        if known is not None and known is source and not self._runs_eagerly():
            return _call(self._of_iterator, [source._iterator_resource])  # noqa: SLF001
        result = self._function(source)
        if _RESOURCE in getattr(source, "__dict__", ()) and self._may_remember():
            # A reference would keep the iterator from being freed with its epoch.
            self._iterator = weakref.ref(source)
            self._of_iterator = self._function.get_concrete_function(source)
        return result

    def forget(self) -> None:
        """Look again for the graphs that fit: other data has come, perhaps of another structure."""
        self._of_batches.clear()

    def _of_batch(self, batch: Any, times: Any) -> Any:
        import tensorflow as tf

        if not tf.is_tensor(times):
            times = tf.constant(times, tf.float64)
        tensors = tf.nest.flatten(batch)
        shapes = _shapes(tensors)
        graph = self._of_batches.get(shapes) if shapes else None
        if graph is not None and not self._runs_eagerly():
            return _call(graph, [*tensors, times])
        result = self._function(batch, times)
        if shapes and len(self._of_batches) < _MOST and self._may_remember():
            self._of_batches[shapes] = self._function.get_concrete_function(batch, times)
        return result

    def _may_remember(self) -> bool:
        import tensorflow as tf

        return bool(tf.executing_eagerly() and not self._runs_eagerly())


def _call(graph: Any, inputs: list[tf.Tensor]) -> Any:
    """Run a concrete function on flat inputs, with the variables that it uses as they are now."""
    return graph._call_flat(inputs, graph.captured_inputs)  # noqa: SLF001 -- flat inputs have no public way in


def _shapes(tensors: Sequence[Any]) -> tuple[Any, ...] | None:
    """Return what of a batch decides which graph fits; None if something in it is no plain tensor."""
    try:
        return tuple([(tensor._shape_tuple(), tensor.dtype) for tensor in tensors])  # noqa: SLF001
    except AttributeError:
        return None
