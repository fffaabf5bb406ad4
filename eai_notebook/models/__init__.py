"""Models for click logs and images: each function returns a plain `keras.Model`.

Names are loaded when first used: the quality figures need NumPy only, the models Keras.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eai_notebook.models.codes import (
        binary_codes,
        hamming_ball,
        hamming_distances,
        word_shares,
    )
    from eai_notebook.models.hashing import autoencoder, encoder_of, pretraining
    from eai_notebook.models.recommendation import deep, logistic_regression, wide_deep
    from eai_notebook.models.search import clicked_places, dssm
    from eai_notebook.models.trees import BoostedTrees, LeavesAndLogistic, in_memory
    from eai_notebook.models.trigrams import hash_trigrams
    from eai_notebook.quality import auc

__all__ = [
    "BoostedTrees",
    "LeavesAndLogistic",
    "auc",
    "autoencoder",
    "binary_codes",
    "clicked_places",
    "deep",
    "dssm",
    "encoder_of",
    "hamming_ball",
    "hamming_distances",
    "hash_trigrams",
    "in_memory",
    "logistic_regression",
    "pretraining",
    "wide_deep",
    "word_shares",
]

_HOMES = {
    "BoostedTrees": "models.trees",
    "LeavesAndLogistic": "models.trees",
    "auc": "quality",
    "autoencoder": "models.hashing",
    "binary_codes": "models.codes",
    "clicked_places": "models.search",
    "deep": "models.recommendation",
    "dssm": "models.search",
    "encoder_of": "models.hashing",
    "hamming_ball": "models.codes",
    "hamming_distances": "models.codes",
    "hash_trigrams": "models.trigrams",
    "in_memory": "models.trees",
    "logistic_regression": "models.recommendation",
    "pretraining": "models.hashing",
    "wide_deep": "models.recommendation",
    "word_shares": "models.codes",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    return getattr(importlib.import_module(f"eai_notebook.{_HOMES[name]}"), name)
