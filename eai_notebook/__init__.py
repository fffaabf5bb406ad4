"""Train on many ranks from a notebook, and see where each step's time goes.

Kernel side: `%load_ext eai_notebook` gives the `%eai` and `%%distributed` magics.
Rank side: `DistributedOptimizer`, `RoutedOptimizer`, `ShardedEmbedding`, `fit`, `Checkpoint`,
`callbacks`, `step`, `section`, `allreduce_gradients`, `export`, and the rooms `io`, `models`, `schedules`.

Names are loaded when first used, so that importing the package in the kernel is quick
and never imports TensorFlow there.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from eai_notebook import keras_names
from eai_notebook._lazy import lazy_attributes

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

__version__ = "0.1.0"

# Arrow's allocator gives memory back after 10 ms by itself, sooner than a training asks for the
# next batch's: to get it again, page by page, took as long as to decode Parquet into it. A minute
# is also longer than what comes between two epochs. It is asked when pyarrow is loaded, so here,
# before anything of the package does that.
os.environ.setdefault("MIMALLOC_PURGE_DELAY", "60000")

keras_names.register()

_HOMES: Final = {
    "Checkpoint": "eai_notebook.train",
    "DistributedOptimizer": "eai_notebook.train",
    "RoutedOptimizer": "eai_notebook.train",
    "ShardedEmbedding": "eai_notebook.train",
    "adapt": "eai_notebook.train",
    "allreduce_gradients": "eai_notebook.train",
    "callbacks": "eai_notebook.train",
    "evaluate": "eai_notebook.train",
    "export": "eai_notebook.train",
    "fit": "eai_notebook.train",
    "section": "eai_notebook.train",
    "shard": "eai_notebook.train",
    "step": "eai_notebook.train",
    "local_rank": "eai_notebook.collective.program_rank",
    "predict": "eai_notebook.train",
    "rank": "eai_notebook.collective.program_rank",
    "size": "eai_notebook.collective.program_rank",
    "Session": "eai_notebook.session",
    "controls": "eai_notebook.display.control_buttons",
    "show": "eai_notebook.display",
    "display": None,
    "io": None,
    "models": None,
    "schedules": None,
}

__all__ = [
    "Checkpoint",
    "DistributedOptimizer",
    "RoutedOptimizer",
    "Session",
    "ShardedEmbedding",
    "__version__",
    "adapt",
    "allreduce_gradients",
    "callbacks",
    "controls",
    "display",
    "evaluate",
    "export",
    "fit",
    "io",
    "local_rank",
    "models",
    "predict",
    "rank",
    "schedules",
    "section",
    "shard",
    "show",
    "size",
    "step",
]


__getattr__, __dir__ = lazy_attributes(__name__, _HOMES)


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Give `shell` the magics; IPython calls this on ``%load_ext eai_notebook``."""
    from eai_notebook.magics import register

    register(shell)


def _jupyter_labextension_paths() -> list[dict[str, str]]:
    """Return the folder of the built front end, for JupyterLab's tools."""
    return [{"src": "labextension", "dest": "eai-notebook"}]
