"""Keras models between processes: as Keras saves them, with an optimizer that needs no ranks."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras

_NOTEBOOK = "__main__"


class KerasArchive:
    """A model that pickles as a ``.keras`` file, and unpickles as the model."""

    def __init__(self, model: keras.Model) -> None:
        self._model = model

    def __reduce__(self) -> tuple[Any, ...]:
        """Save the model; classes that a cell has defined travel along."""
        _, (archive,) = self._model.__reduce__()  # by this rank alone; `save` is for all of them
        return load, (archive.getvalue(), cell_classes(self._model))


def is_model(value: Any) -> bool:
    """Return whether `value` is a Keras model; does not load Keras to find out."""
    loaded = sys.modules.get("keras")
    return loaded is not None and isinstance(value, loaded.Model)


def cell_classes(model: keras.Model) -> dict[str, type]:
    """Return the classes of `model` and its layers that a cell has defined, by name."""
    parts = [model, *model._flatten_layers(include_self=False)]  # noqa: SLF001
    kinds = {base for part in parts for base in type(part).__mro__}
    return {kind.__name__: kind for kind in kinds if kind.__module__ == _NOTEBOOK}


def load(archive: bytes, classes: dict[str, type]) -> Any:
    """Return the model of `archive`; its optimizer is the one that ours has wrapped.

    In a process that has not loaded TensorFlow it is loaded without GPUs: they are the ranks',
    and TensorFlow would take all the memory they have left.
    """
    if "tensorflow" not in sys.modules:
        import tensorflow as tf

        tf.config.set_visible_devices([], "GPU")
    import keras

    from eai_notebook.train import DistributedOptimizer

    with tempfile.TemporaryDirectory(prefix="eai-model-") as folder:
        file = Path(folder) / "model.keras"
        file.write_bytes(archive)
        model = keras.models.load_model(file, custom_objects=classes, safe_mode=False)
    if isinstance(getattr(model, "optimizer", None), DistributedOptimizer):
        model.optimizer = model.optimizer.inner_optimizer
    return model
