"""Types of the ledger's arrays, and the mean over what was measured."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


def mean(values: Floats, axis: int | tuple[int, ...] | None = None) -> Floats:
    """Return the mean over what was measured; NaN, quietly, where nothing was."""
    known = np.isfinite(values)
    total = np.where(known, values, 0.0).sum(axis=axis)
    count = np.asarray(known.sum(axis=axis))
    return np.asarray(np.where(count > 0, total / np.maximum(count, 1), np.nan))
