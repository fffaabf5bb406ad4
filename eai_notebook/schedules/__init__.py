"""Learning rates over a training, so that accuracy holds when the batch grows.

Names are loaded when first used: nothing here needs TensorFlow until a schedule is made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eai_notebook.schedules.linear_scaling import scale_linearly, steps_per_epoch

if TYPE_CHECKING:
    from eai_notebook.schedules.curves import WarmupSteps, cosine, parse

__all__ = ["WarmupSteps", "cosine", "parse", "scale_linearly", "steps_per_epoch"]

_CURVES = ("WarmupSteps", "cosine", "parse")


def __getattr__(name: str) -> Any:
    if name not in _CURVES:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    from eai_notebook.schedules import curves

    return getattr(curves, name)
