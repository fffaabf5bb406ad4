"""Variables that are made while a step is traced, and so have no value until that is over.

TensorFlow traces such a step twice: the first time the variables are made, then they get
their values, and what runs is the second trace, which makes none. Whatever has to be done with
the values before the first step runs, such as taking them over from rank 0, is done there.
"""

from __future__ import annotations

from typing import Any


def has_value(variable: Any) -> bool:
    """Return whether a Keras or TensorFlow variable has a value now.

    Examples:
        >>> import tensorflow as tf
        >>> has_value(tf.Variable(1.0))
        True
    """
    import tensorflow as tf

    with tf.init_scope():
        plain = variable if isinstance(variable, tf.Variable) else variable.value
        return bool(plain.is_initialized())


def refuse_to_run() -> None:
    """Have the graph that is being traced fail if it ever runs.

    It does so only where TensorFlow cannot compute the initial values by themselves, because
    they depend on the step's input.
    """
    import tensorflow as tf

    if tf.executing_eagerly():
        return
    words = (
        "the model gets its weights only while its first step runs, too late to take them "
        "over from rank 0: build it before, with model.build(shape) or model(batch)"
    )
    tf.raw_ops.Assert(condition=tf.constant(False), data=[words])  # noqa: FBT003 -- what it says
