"""Loss scaling around a distributed optimizer: all ranks skip a step, or none does.

Under ``mixed_float16`` Keras puts its `LossScaleOptimizer` around the optimizer of a model. It
skips a step whose gradients are not finite, and looks at those of its own rank: one rank would
skip while the others wait for its gradients. So where it has a `DistributedOptimizer` inside,
the ranks find out together.
"""

from __future__ import annotations

import functools
from typing import Any

import keras

from eai_notebook import collective


def decide_together() -> None:
    """Have Keras's `LossScaleOptimizer` ask all ranks where its optimizer is distributed."""
    scaling = keras.optimizers.LossScaleOptimizer
    if getattr(scaling, "_eai_decides_together", False):
        return
    alone, made = scaling.check_finite, scaling.__init__

    @functools.wraps(alone)
    def check_finite(self: Any, grads: Any) -> Any:
        finite = alone(self, grads)
        return on_all_ranks(finite) if _is_distributed(self.inner_optimizer) else finite

    @functools.wraps(made)
    def make(self: Any, inner_optimizer: Any, *settings: Any, **more: Any) -> None:
        inside = getattr(inner_optimizer, "inner_optimizer", None)
        if _is_distributed(inner_optimizer) and isinstance(inside, scaling):
            # Keras does not see a loss scale inside, and two would divide by both.
            inner_optimizer.inner_optimizer = inside.inner_optimizer
            more = {
                "initial_scale": inside.initial_scale,
                "dynamic_growth_steps": inside.dynamic_growth_steps,
                **more,
            }
        made(self, inner_optimizer, *settings, **more)

    scaling.check_finite = check_finite
    scaling.__init__ = make
    scaling._eai_decides_together = True  # noqa: SLF001


def on_all_ranks(finite: Any) -> Any:
    """Return whether `finite`, a boolean scalar, holds on every rank.

    Examples:
        >>> import tensorflow as tf
        >>> bool(on_all_ranks(tf.constant(True)))
        True
    """
    import tensorflow as tf

    collective.ensure_formed()
    if not collective.exchanges():
        return finite
    broken = tf.cast(tf.logical_not(finite), tf.float32)
    return tf.equal(collective.allreduce(broken, "loss_scale.broken", average=False), 0.0)


def _is_distributed(optimizer: Any) -> bool:
    return hasattr(optimizer, "exchange_memory")


def show_to_averages() -> None:
    """Have Keras's `SwapEMAWeights` find the averages of an optimizer below two wrappers.

    It looks below one, which is the loss scale in plain Keras, and would call the optimizer below
    ours one without averages.
    """
    swap: Any = keras.callbacks.SwapEMAWeights
    usual = swap._apply_to_ema_optimizers  # noqa: SLF001 -- where all of it asks
    if getattr(usual, "_eai_looks_below", False):
        return

    @functools.wraps(usual)
    def apply(self: Any, *functions: Any) -> None:
        outer = self.model.optimizer
        scaled = getattr(outer, "inner_optimizer", None)
        if not (_is_distributed(outer) and hasattr(scaled, "inner_optimizer")):
            usual(self, *functions)
            return
        self.model.optimizer = scaled
        try:
            usual(self, *functions)
        finally:
            self.model.optimizer = outer

    apply._eai_looks_below = True  # type: ignore[attr-defined]  # noqa: SLF001 -- our own mark
    swap._apply_to_ema_optimizers = apply  # noqa: SLF001
