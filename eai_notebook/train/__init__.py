"""Training on all ranks with Keras, each step measured.

Names are loaded when first used, so that the room can be imported without TensorFlow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from eai_notebook._lazy import lazy_attributes

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

_HOMES: Final = {
    "Checkpoint": "eai_notebook.train.checkpoint",
    "DistributedOptimizer": "eai_notebook.train.optimizer",
    "RoutedOptimizer": "eai_notebook.train.routed_optimizer",
    "ShardedEmbedding": "eai_notebook.train.sharded.sharded_embedding",
    "allreduce_gradients": "eai_notebook.train.custom_loop",
    "callbacks": "eai_notebook.train._callbacks",
    "export": "eai_notebook.train._export",
    "fit": "eai_notebook.train._fit",
    "step": "eai_notebook.train.custom_loop",
}

__getattr__, __dir__ = lazy_attributes(__name__, _HOMES)
