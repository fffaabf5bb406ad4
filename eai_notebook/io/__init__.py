"""Input: from files to batches, read ahead while the model computes.

Names are imported on first use: the schema and the generators do not need TensorFlow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from eai_notebook._lazy import lazy_attributes
from eai_notebook.clicklog.click_schema import CRITEO, ClickSchema

if TYPE_CHECKING:
    from eai_notebook.clicklog.click_reader import criteo
    from eai_notebook.clicklog.conversion import convert
    from eai_notebook.clicklog.serving_features import features
    from eai_notebook.formats.arrow_ipc.arrow_reader import arrow
    from eai_notebook.formats.fixed_width import binary
    from eai_notebook.formats.images.image_reader import imagenet, images
    from eai_notebook.formats.map_files import map_files
    from eai_notebook.formats.parquet.parquet_reader import parquet
    from eai_notebook.formats.tfrecord.tfrecord_reader import tfrecord
    from eai_notebook.io.pipeline.dataset import InputData

_HOMES: Final = {
    "InputData": "eai_notebook.io.pipeline.dataset",
    "arrow": "eai_notebook.formats.arrow_ipc.arrow_reader",
    "binary": "eai_notebook.formats.fixed_width",
    "convert": "eai_notebook.clicklog.conversion",
    "criteo": "eai_notebook.clicklog.click_reader",
    "map_files": "eai_notebook.formats.map_files",
    "features": "eai_notebook.clicklog.serving_features",
    "imagenet": "eai_notebook.formats.images.image_reader",
    "images": "eai_notebook.formats.images.image_reader",
    "parquet": "eai_notebook.formats.parquet.parquet_reader",
    "tfrecord": "eai_notebook.formats.tfrecord.tfrecord_reader",
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


READERS: Final = "eai_notebook.file_formats"
"""Entry point group for readers of other packages: the function becomes ``eai.io.NAME``."""

__getattr__, __dir__ = lazy_attributes(__name__, _HOMES, group=READERS)
