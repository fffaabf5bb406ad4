"""Training on all ranks with Keras, each step measured.

Names are loaded when first used, so that the room can be imported without TensorFlow.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eai_notebook.train._callbacks import callbacks
    from eai_notebook.train._export import export
    from eai_notebook.train._fit import fit
    from eai_notebook.train.checkpoint import Checkpoint
    from eai_notebook.train.custom_loop import allreduce_gradients, step
    from eai_notebook.train.optimizer import DistributedOptimizer
    from eai_notebook.train.routed_optimizer import RoutedOptimizer
    from eai_notebook.train.sharded.sharded_embedding import ShardedEmbedding

__all__ = [
    "Checkpoint",
    "DistributedOptimizer",
    "RoutedOptimizer",
    "ShardedEmbedding",
    "allreduce_gradients",
    "callbacks",
    "export",
    "fit",
    "step",
]

_HOMES = {
    "Checkpoint": "checkpoint",
    "DistributedOptimizer": "optimizer",
    "RoutedOptimizer": "routed",
    "ShardedEmbedding": "sharded_embedding",
    "allreduce_gradients": "custom",
    "callbacks": "around",
    "export": "exporting",
    "fit": "fitting",
    "step": "custom",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
