"""Exchanges inside functions that XLA is to compile: the function is left to TensorFlow.

XLA compiles the whole of a ``tf.function(jit_compile=True)`` or nothing, and it has no operation
for an exchange or for reading a clock. So a function that turns out to exchange while it is traced
is no longer compiled as a whole. `train.exchange.xla_clusters` has XLA compile its parts.
"""

from __future__ import annotations

import sys
import weakref
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

_TRACING: Final = "_create_concrete_function"
"""TensorFlow's function that traces one; the compile mark is among its options until it returns."""
_MARKS: Final = ("_XlaMustCompile", "_noinline")

_left: weakref.WeakSet[Any] = weakref.WeakSet()
"""The graphs that XLA was to compile and does not, as they exchange."""


def is_compiled() -> bool:
    """Return whether XLA compiles the function that is being traced, as a whole."""
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow is None or tensorflow.executing_eagerly():
        return False
    return any(_context(graph) is not None for graph in graphs())


def was_left() -> bool:
    """Return whether XLA was to compile the function that is being traced."""
    return any(graph in _left for graph in graphs())


def leave() -> None:
    """Have XLA no longer compile the function that is being traced, or those around it."""
    if not is_compiled():
        return
    for options in _tracing_options():
        for mark in _MARKS:
            options.attributes.pop(mark, None)
    inside = True
    for graph in graphs():
        own = _context(graph) is not None
        # TensorFlow sets the context in the graph that calls a function, or in the function's own.
        if inside and (not own or graph is next(graphs())):
            _left.add(graph)
        if own:
            # Else TensorFlow would lay out conditions and loops as XLA wants them.
            graph._set_control_flow_context(None)  # noqa: SLF001 -- there is no public way
            inside = False


def graphs() -> Iterator[Any]:
    """Yield the graph that is being traced, and those around it."""
    import tensorflow as tf

    graph = tf.compat.v1.get_default_graph()
    while graph is not None:
        yield graph
        graph = getattr(graph, "outer_graph", None)


def _context(graph: Any) -> Any:
    """Return the XLA context of a graph; None where it has none."""
    context = graph._get_control_flow_context()  # noqa: SLF001 -- there is no public way
    while context is not None:
        if context.IsXLAContext():
            return context
        context = context.outer_context
    return None


def _tracing_options() -> Iterator[Any]:
    """Yield the options of the functions that are being traced, the innermost first."""
    frame: FrameType | None = sys._getframe()  # noqa: SLF001 -- they are in no object that one could reach
    while frame is not None:
        if frame.f_code.co_name == _TRACING and "tracing_options" in frame.f_locals:
            options = frame.f_locals["tracing_options"]
            if options.attributes:
                yield options
        frame = frame.f_back
