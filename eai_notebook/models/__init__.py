"""Models for clicks, search, documents and pictures, each a plain `keras.Model`.

Names are loaded when first used: the quality figures need NumPy only, the models Keras.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eai_notebook.metrics import auc
    from eai_notebook.models.augment import RandomView
    from eai_notebook.models.batch_norm import SyncBatchNormalization, local_batch_norm
    from eai_notebook.models.document_codes import (
        binary_codes,
        hamming_ball,
        hamming_distances,
        word_shares,
    )
    from eai_notebook.models.image_models import (
        inception_v3,
        resnet50,
        resnet101,
        small_resnet,
        vgg16,
    )
    from eai_notebook.models.image_recipe import accuracies, crossentropy
    from eai_notebook.models.recommendation import deep, logistic_regression, wide_deep
    from eai_notebook.models.search import clicked_places, dssm
    from eai_notebook.models.semantic_hashing import autoencoder, encoder_of, pretraining
    from eai_notebook.models.trees import BoostedTrees, LeavesAndLogistic, in_memory
    from eai_notebook.models.trigrams import hash_trigrams

__all__ = [
    "BoostedTrees",
    "LeavesAndLogistic",
    "RandomView",
    "SyncBatchNormalization",
    "accuracies",
    "auc",
    "autoencoder",
    "binary_codes",
    "clicked_places",
    "crossentropy",
    "deep",
    "dssm",
    "encoder_of",
    "hamming_ball",
    "hamming_distances",
    "hash_trigrams",
    "in_memory",
    "inception_v3",
    "local_batch_norm",
    "logistic_regression",
    "pretraining",
    "resnet50",
    "resnet101",
    "small_resnet",
    "vgg16",
    "wide_deep",
    "word_shares",
]

_HOMES = {
    "BoostedTrees": "models.trees",
    "LeavesAndLogistic": "models.trees",
    "RandomView": "models.augment",
    "SyncBatchNormalization": "models.batch_norm",
    "accuracies": "models.recipe",
    "auc": "quality",
    "autoencoder": "models.hashing",
    "binary_codes": "models.codes",
    "clicked_places": "models.search",
    "crossentropy": "models.recipe",
    "deep": "models.recommendation",
    "dssm": "models.search",
    "encoder_of": "models.hashing",
    "hamming_ball": "models.codes",
    "hamming_distances": "models.codes",
    "hash_trigrams": "models.trigrams",
    "in_memory": "models.trees",
    "inception_v3": "models.images",
    "local_batch_norm": "models.batch_norm",
    "logistic_regression": "models.recommendation",
    "pretraining": "models.hashing",
    "resnet101": "models.images",
    "resnet50": "models.images",
    "small_resnet": "models.images",
    "vgg16": "models.images",
    "wide_deep": "models.recommendation",
    "word_shares": "models.codes",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    return getattr(importlib.import_module(f"eai_notebook.{_HOMES[name]}"), name)
