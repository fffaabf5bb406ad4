"""A variable that is made while a function is traced, and not part of what is traced.

TensorFlow traces a function twice if variables were made in its first trace, also such as were made in
``tf.init_scope``. What we keep beside a model, in variables of our own, would double the time before the first step.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import tensorflow as tf


def untraced_variable(initial: Any, **settings: Any) -> tf.Variable:
    """Return a variable that has its value at once, whatever is traced now.

    Args:
        initial: Its value, an array or number.
        settings: What `tf.Variable` takes.

    Examples:
        >>> import tensorflow as tf
        >>> made, traced = [], []
        >>> def step():
        ...     traced.append(1)
        ...     made.append(made[0] if made else untraced_variable(2.0))
        ...     return made[0] + 1
        >>> float(tf.function(step, autograph=False)()), len(traced)
        (3.0, 1)
    """
    import tensorflow as tf

    if tf.executing_eagerly():
        return tf.Variable(initial, **settings)
    # A thread of its own traces nothing, and has none of the scopes of the one that does.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(lambda: tf.Variable(initial, **settings)).result()
