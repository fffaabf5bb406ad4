"""Have XLA compile forward and backward pass of a step, and leave its exchange to TensorFlow.

TensorFlow groups neighbouring operations that are marked into clusters, which XLA compiles; those
it cannot compile stay outside. Gradients are ready together then, so that less of their exchange
overlaps with the backward pass.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

from eai_notebook.collective import xla_context

if TYPE_CHECKING:
    from collections.abc import Iterator

_MARK: Final = "_XlaCompile"
_NOT_MARKED: Final = ("Placeholder", "NoOp", "Const")

_wanted = False


@contextlib.contextmanager
def compiled(wanted: bool) -> Iterator[None]:  # noqa: FBT001 -- the model's own setting
    """Have steps that are traced meanwhile compiled up to their exchange, if `wanted`."""
    global _wanted
    before, _wanted = _wanted, wanted
    try:
        yield
    finally:
        _wanted = before


def compile_so_far() -> None:
    """Mark all operations of the step that is being traced, up to here.

    Those that come later, the exchange and the update, are not: a cluster with the update of one
    variable and the gradient of another would order exchanges that other ranks order differently.
    """
    import tensorflow as tf

    xla_context.leave()
    if tf.executing_eagerly() or not (_wanted or xla_context.was_left()):
        return
    from tensorflow.core.framework import attr_value_pb2

    mark = attr_value_pb2.AttrValue(b=True)
    for graph in xla_context.graphs():
        if not isinstance(graph, tf.__internal__.FuncGraph):
            continue
        for operation in graph.get_operations():
            if operation.type not in _NOT_MARKED:
                operation._set_attr(_MARK, mark)  # noqa: SLF001 -- there is no public way
