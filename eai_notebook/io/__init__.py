"""Input: from files to batches, read ahead while the model computes.

Names are loaded when first used: the schema and the generator need no TensorFlow.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from eai_notebook.io.schema import CRITEO, ClickSchema

if TYPE_CHECKING:
    from eai_notebook.io.clicks import criteo
    from eai_notebook.io.conversion import convert
    from eai_notebook.io.flow.dataset import InputData
    from eai_notebook.io.formats.arrow import arrow
    from eai_notebook.io.formats.binary import binary
    from eai_notebook.io.formats.parquet import parquet
    from eai_notebook.io.formats.tfrecord import tfrecord
    from eai_notebook.io.image_files import imagenet, images
    from eai_notebook.io.mapped import map_files
    from eai_notebook.io.serving import features

_HOMES = {
    "InputData": "eai_notebook.io.flow.dataset",
    "arrow": "eai_notebook.io.formats.arrow",
    "binary": "eai_notebook.io.formats.binary",
    "convert": "eai_notebook.io.conversion",
    "criteo": "eai_notebook.io.clicks",
    "map_files": "eai_notebook.io.mapped",
    "features": "eai_notebook.io.serving",
    "imagenet": "eai_notebook.io.image_files",
    "images": "eai_notebook.io.image_files",
    "parquet": "eai_notebook.io.formats.parquet",
    "tfrecord": "eai_notebook.io.formats.tfrecord",
}

__all__ = [
    "CRITEO",
    "ClickSchema",
    "InputData",
    "arrow",
    "binary",
    "convert",
    "criteo",
    "features",
    "imagenet",
    "images",
    "map_files",
    "parquet",
    "tfrecord",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    found = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = found
    return found
