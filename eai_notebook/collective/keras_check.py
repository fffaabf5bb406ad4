"""Check that Keras computes with TensorFlow, whose graphs the exchanges are part of."""

from __future__ import annotations

import os
import sys
from typing import Final

from eai_notebook.errors import EaiError

_BACKEND: Final = "tensorflow"


def check_keras() -> None:
    """Raise if Keras computes, or is about to compute, with something else than TensorFlow.

    Raises:
        EaiError: It does.
    """
    _check(os.environ.get("KERAS_BACKEND", _BACKEND))
    keras = sys.modules.get("keras")
    if keras is not None and hasattr(keras, "config"):
        _check(keras.config.backend())


def _check(backend: str) -> None:
    if backend.lower() not in ("", _BACKEND):
        remedy = f"set KERAS_BACKEND={_BACKEND} before Keras is imported"
        what = f"Keras runs on {backend}, and ranks train on TensorFlow"
        raise EaiError(what, remedy, code="keras-backend")
