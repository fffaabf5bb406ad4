"""Take over rank 0's weights when a loop of the user's own exchanges gradients for the first time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from eai_notebook import collective
from eai_notebook.train.data_sharding import say
from eai_notebook.train.replica_check import checksum, first_difference

if TYPE_CHECKING:
    from collections.abc import Sequence


def take_over(weights: Sequence[Any], state: Sequence[Any] = ()) -> None:
    """Give all ranks rank 0's values of `weights` and of an optimizer's `state`.

    In a step that is being traced this is done before anything of it runs. In an eager loop the
    first gradients are there already, computed with each rank's own weights: it says so, where
    these differ. All ranks must call it together.

    Examples:
        >>> import keras
        >>> take_over([keras.Variable([1.0])])
    """
    import tensorflow as tf

    if weights and tf.executing_eagerly() and collective.size() > 1:
        sums = np.array([checksum(np.asarray(weight)) for weight in weights], np.int64)
        if first_difference(collective.gather_numpy(sums)) is not None:
            say(
                "the ranks began this loop with different weights; they go on with rank 0's, but the "
                "first step's gradients are of each rank's own: call keras.utils.set_random_seed(1) "
                "before the model is made, or put @tf.function on the step"
            )
    collective.broadcast_variables([*weights, *state])
