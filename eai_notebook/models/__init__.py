"""Models for clicks, search, documents and images, each a plain `keras.Model`.

Names are imported when first used: metrics need only NumPy, models need Keras.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from eai_notebook._lazy import lazy_attributes

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

_HOMES: Final = {
    "BoostedTrees": "eai_notebook.models.trees",
    "LeavesAndLogistic": "eai_notebook.models.trees",
    "RandomView": "eai_notebook.models.augment",
    "SyncBatchNormalization": "eai_notebook.models.batch_norm",
    "accuracies": "eai_notebook.models.image_recipe",
    "auc": "eai_notebook.metrics",
    "autoencoder": "eai_notebook.models.semantic_hashing",
    "binary_codes": "eai_notebook.models.document_codes",
    "clicked_places": "eai_notebook.models.search",
    "crossentropy": "eai_notebook.models.image_recipe",
    "deep": "eai_notebook.models.recommendation",
    "dssm": "eai_notebook.models.search",
    "encoder_of": "eai_notebook.models.semantic_hashing",
    "hamming_ball": "eai_notebook.models.document_codes",
    "hamming_distances": "eai_notebook.models.document_codes",
    "hash_trigrams": "eai_notebook.models.trigrams",
    "in_memory": "eai_notebook.models.trees",
    "inception_v3": "eai_notebook.models.image_models",
    "local_batch_norm": "eai_notebook.models.batch_norm",
    "logistic_regression": "eai_notebook.models.recommendation",
    "pretraining": "eai_notebook.models.semantic_hashing",
    "resnet101": "eai_notebook.models.image_models",
    "resnet50": "eai_notebook.models.image_models",
    "small_resnet": "eai_notebook.models.image_models",
    "vgg16": "eai_notebook.models.image_models",
    "wide_deep": "eai_notebook.models.recommendation",
    "word_shares": "eai_notebook.models.document_codes",
}


__getattr__, __dir__ = lazy_attributes(__name__, _HOMES)
