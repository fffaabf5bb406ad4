"""Losses that sum over the rows of a batch: in a training step they count the rows of all ranks.

Gradients are averaged over the ranks. That is the step of one process with the global batch where
a loss averages over its rows; one with ``reduction="sum"`` would be divided by the number of ranks.
So it is multiplied by that number, as `tf.distribute` has it by adding up.
"""

from __future__ import annotations

import functools
import weakref
from typing import Any, Final

import keras

from eai_notebook import collective
from eai_notebook.train import lone_fits
from eai_notebook.train.autograph import not_converted

_SUMS: Final = ("sum", "none", None)
"""Reductions whose gradient is a sum over the rows."""


_together: weakref.WeakSet[Any] = weakref.WeakSet()
"""The models that are, or were, trained by all ranks together."""


def count_all_ranks(model: keras.Model) -> None:
    """Have losses that sum over rows count those of all ranks while `model` is being fitted.

    Validation is left alone: there each rank reports the sum over a batch of its own.
    """
    _together.add(model)
    loss: Any = keras.losses.Loss
    if getattr(loss, "_eai_counts_all_ranks", False):
        return
    loss._eai_counts_all_ranks = True  # noqa: SLF001 -- our own mark
    usual = loss.__call__

    @functools.wraps(usual)
    def call(self: Any, *arguments: Any, **settings: Any) -> Any:
        value = usual(self, *arguments, **settings)
        if self.reduction not in _SUMS or not _trains_together():
            return value
        if self.reduction == "sum":
            return value * collective.size()
        # A loss for each row: its mean is reported, and the gradients of all are added up.
        others = value * (collective.size() - 1)
        return value + others - keras.ops.stop_gradient(others)

    # How AutoGraph marks what it leaves alone.
    call.autograph_info__ = {}  # type: ignore[attr-defined]
    loss.__call__ = call


@not_converted
def _trains_together() -> bool:
    """Return whether a training step is computed, or traced, whose gradients are averaged."""
    from tensorflow.python.eager import record

    return (
        lone_fits.fitted() in _together
        and collective.exchanges()
        and record.could_possibly_record()  # (a gradient tape is open: so it is no validation)
    )
