"""Trainings in which no gradient is exchanged: N models, trained apart, without an error.

Keras's own `fit` in a cell of all ranks is such a training, unless its optimizer exchanges
gradients or its `train_step` does. Whether a model exchanges is noted while its step is traced.
"""

from __future__ import annotations

import functools
import weakref
from typing import Any

import keras

from eai_notebook import collective
from eai_notebook.telemetry import messages

_fitting: list[weakref.ref[Any]] = []
"""The models that are being fitted, the innermost last."""

_exchanging: weakref.WeakSet[Any] = weakref.WeakSet()


def is_fitting() -> bool:
    """Return whether a model is being fitted now."""
    return bool(_fitting)


def fitted() -> keras.Model | None:
    """Return the model that is being fitted now, None if there is none."""
    return _fitting[-1]() if _fitting else None


_noted = 0


def noted() -> int:
    """Return how many exchanges of gradients this process has made or traced so far."""
    return _noted


def note_exchange() -> None:
    """Note that gradients are exchanged, in the training step of the model that is being fitted."""
    global _noted
    _noted += 1
    model = fitted()
    if model is not None:
        _exchanging.add(model)


def exchanges(model: keras.Model) -> bool:
    """Return whether `model` exchanged gradients in any step of a fit that was watched."""
    return model in _exchanging


def began(model: keras.Model) -> None:
    """Note that `model` is being fitted from now on."""
    _fitting.append(weakref.ref(model))


def ended() -> None:
    """Note that the innermost fit is over."""
    del _fitting[-1:]


def forget(_outcome: str) -> None:
    """Forget the fits that the cell that ends now did not end: they have failed, or were stopped."""
    _fitting.clear()


def watch() -> None:
    """Have each `fit` on this rank in which no gradient was exchanged be said to the session.

    Keras gives every `fit` a `History`, which is watched: so no frame of ours comes between the
    user's traceback and Keras's.
    """
    history: Any = keras.callbacks.History
    if getattr(history, "_eai_watched", False):
        return
    history._eai_watched = True  # noqa: SLF001 -- our own mark
    messages.on_cell_end(forget)
    usual_begin, usual_end = history.on_train_begin, history.on_train_end

    @functools.wraps(usual_begin)
    def on_train_begin(self: Any, logs: Any = None) -> None:
        began(self.model)
        usual_begin(self, logs)

    @functools.wraps(usual_end)
    def on_train_end(self: Any, logs: Any = None) -> None:
        usual_end(self, logs)
        ended()
        if collective.size() > 1 and self.epoch and not exchanges(self.model):
            messages.emit(messages.TrainedAlone(collective.rank(), str(self.model.name)))

    history.on_train_begin, history.on_train_end = on_train_begin, on_train_end
