"""`export`: save a trained model that loads without this package."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from eai_notebook import collective
from eai_notebook.errors import EaiError

if TYPE_CHECKING:
    import os

    import keras

_KERAS = ".keras"


def export(model: keras.Model, path: str | os.PathLike[str]) -> Path:
    """Write `model` for serving, from rank 0; all ranks must call it together.

    A saved training needs this package to go on, for its optimizer is ours. What is written
    here is the model alone: ``keras.models.load_model`` reads a file; a folder is for TensorFlow
    Serving, or for ``served = tf.saved_model.load(folder)`` and ``served.serve(inputs)``.

    Args:
        model: A built model; a file needs one of Keras's own layers or registered ones.
        path: A name that ends in ``.keras`` for a Keras file; any other for a folder in
            TensorFlow's SavedModel format, whose ``serve`` takes batches of any size.

    Returns:
        The path, on every rank once the whole of it is there.

    Raises:
        EaiError: The model has no weights yet, or rank 0 cannot write; on all ranks.

    Examples:
        >>> import keras, tempfile
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        >>> model.compile("adam", "mse")
        >>> saved = export(model, Path(tempfile.mkdtemp()) / "model.keras")
        >>> keras.models.load_model(saved).compiled
        False
    """
    target = Path(path).expanduser()
    collective.ensure_formed()
    problem = None
    if collective.rank() == 0:
        try:
            _write(model, target)
        except (OSError, ValueError) as error:
            problem = " ".join(str(error).split())
    problem = collective.broadcast_object(problem)
    if problem is not None:
        raise EaiError(
            f"{target} cannot be written ({problem})",
            "build the model, make room, or choose another folder",
            code="write-failed",
        )
    return target


def _write(model: keras.Model, target: Path) -> None:
    if not model.built:
        raise ValueError("the model has no weights yet")
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.suffix != _KERAS:
        model.export(target, verbose=False)
        return
    # A copy has no optimizer, and so nothing that plain Keras would not know.
    plain = type(model).from_config(model.get_config())
    plain.set_weights(model.get_weights())
    plain.save(target)
