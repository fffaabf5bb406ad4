"""Differentiable allreduce: the backward pass sums the gradients of all ranks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eai_notebook.collective.membership import ensure_formed, exchanges
from eai_notebook.collective.ops import allreduce

if TYPE_CHECKING:
    import tensorflow as tf


def joint_sum(tensor: tf.Tensor, name: str) -> tf.Tensor:
    """Return the sum of `tensor` over the ranks, with a gradient that crosses them as well.

    Every rank's loss depends on every rank's part of the sum. So what flows back to a part
    is the sum of what all ranks have found. Average the weights' gradients over the ranks
    afterwards, as `DistributedOptimizer` does, and they are those of one process that has
    all samples and the mean of the ranks' losses.

    Args:
        tensor: Of the same shape and dtype on all ranks, which are the result's.
        name: What it is for; the same on all ranks. Within a ``tf.function`` a number is
            added where a name comes up again.
    """
    import tensorflow as tf

    ensure_formed()
    if not exchanges():
        return tf.convert_to_tensor(tensor)
    # A scope of its own, for an exchange is known by its full name, and the scope of the layer
    # around it has a number that depends on what else was made on this rank.
    scope = "joint/"
    if not tf.executing_eagerly():
        # Ranks that trace the same step give out the same numbers.
        with tf.name_scope(scope):
            name = tf.compat.v1.get_default_graph().unique_name(name).replace("/", ".")

    @tf.custom_gradient
    def summed(part: tf.Tensor) -> tuple[tf.Tensor, Any]:
        def backward(upstream: tf.Tensor) -> tf.Tensor:
            with tf.name_scope(scope):
                return allreduce(upstream, f"{name}.backward", average=False)

        with tf.name_scope(scope):
            return allreduce(part, name, average=False), backward

    return summed(tensor)
