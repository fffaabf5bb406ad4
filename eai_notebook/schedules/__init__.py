"""Learning-rate schedules that keep accuracy when the global batch grows.

Names are imported when first used, so TensorFlow is loaded only when a schedule is created.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from eai_notebook._lazy import lazy_attributes
from eai_notebook.schedules.linear_scaling import scale_linearly, steps_per_epoch

if TYPE_CHECKING:
    from eai_notebook.schedules.curves import WarmupSteps, cosine, parse

__all__ = ["WarmupSteps", "cosine", "parse", "scale_linearly", "steps_per_epoch"]

_HOMES: Final = dict.fromkeys(("WarmupSteps", "cosine", "parse"), "eai_notebook.schedules.curves")

__getattr__, __dir__ = lazy_attributes(__name__, _HOMES)
