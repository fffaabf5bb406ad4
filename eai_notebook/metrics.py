"""Exact AUC."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from eai_notebook.errors import EaiError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def auc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Return the exact area under the ROC curve.

    This is the probability that a positive row scores above a negative one (ties count half),
    computed from ranks. Keras's metric approximates it with 200 thresholds.

    Args:
        labels: 0 or 1, any shape.
        scores: Any real number, in the same order and number as `labels`.

    Raises:
        EaiError: The lengths differ, or all labels are equal.

    Examples:
        >>> auc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
        0.75
    """
    truth = np.asarray(labels).ravel() > 0
    ranked = np.asarray(scores).ravel()
    if len(truth) != len(ranked):
        raise EaiError(
            f"{len(truth)} labels and {len(ranked)} scores",
            "pass one score for each label",
            code="lengths-differ",
        )
    clicked = int(truth.sum())
    other = len(truth) - clicked
    if clicked == 0 or other == 0:
        raise EaiError("all labels are equal", "pass rows of both classes", code="labels-equal")
    _, index, count = np.unique(ranked, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    middle_rank = last - (count - 1) / 2
    above = middle_rank[index][truth].sum() - clicked * (clicked + 1) / 2
    return float(above / (clicked * other))
