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
    from eai_notebook.train.adapting import adapt
    from eai_notebook.train.checkpoint import Checkpoint
    from eai_notebook.train.custom_loop import allreduce_gradients, step
    from eai_notebook.train.data_sharding import shard
    from eai_notebook.train.evaluating import evaluate, predict
    from eai_notebook.train.named_section import section
    from eai_notebook.train.optimizer import DistributedOptimizer
    from eai_notebook.train.routed_optimizer import RoutedOptimizer
    from eai_notebook.train.sharded.sharded_embedding import ShardedEmbedding

__all__ = [
    "Checkpoint",
    "DistributedOptimizer",
    "RoutedOptimizer",
    "ShardedEmbedding",
    "adapt",
    "allreduce_gradients",
    "callbacks",
    "evaluate",
    "export",
    "fit",
    "predict",
    "section",
    "shard",
    "step",
]

_HOMES: Final = {
    "Checkpoint": "eai_notebook.train.checkpoint",
    "DistributedOptimizer": "eai_notebook.train.optimizer",
    "RoutedOptimizer": "eai_notebook.train.routed_optimizer",
    "ShardedEmbedding": "eai_notebook.train.sharded.sharded_embedding",
    "adapt": "eai_notebook.train.adapting",
    "allreduce_gradients": "eai_notebook.train.custom_loop",
    "callbacks": "eai_notebook.train._callbacks",
    "evaluate": "eai_notebook.train.evaluating",
    "export": "eai_notebook.train._export",
    "fit": "eai_notebook.train._fit",
    "predict": "eai_notebook.train.evaluating",
    "section": "eai_notebook.train.named_section",
    "shard": "eai_notebook.train.data_sharding",
    "step": "eai_notebook.train.custom_loop",
}

__getattr__, __dir__ = lazy_attributes(__name__, _HOMES)
