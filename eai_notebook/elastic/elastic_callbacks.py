"""Callbacks of an elastic training: what writes files does so on the first live rank."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import keras

from eai_notebook.train._callbacks import WRITERS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from eai_notebook.elastic.lone_ring import Ring

_HOOKS: Final = tuple(name for name in dir(keras.callbacks.Callback) if name.startswith("on_"))


class _OnFirstRank(keras.callbacks.Callback):  # type: ignore[misc,unused-ignore]
    """Passes on to another callback what happens while this rank is the first one that lives."""

    def __init__(self, inner: keras.callbacks.Callback, ring: Ring) -> None:
        super().__init__()
        self.inner, self._ring, self._begun = inner, ring, False

    def set_model(self, model: keras.Model) -> None:
        super().set_model(model)
        self.inner.set_model(model)

    def set_params(self, params: dict[str, Any]) -> None:
        super().set_params(params)
        self.inner.set_params(params)


def _passing(name: str) -> Any:
    def hook(self: _OnFirstRank, *given: Any, **named: Any) -> None:
        inner = self.inner
        if self._ring.rank != 0:
            return
        if not self._begun and name != "on_train_begin":
            inner.on_train_begin()  # this rank was not the first one then
        self._begun = True
        getattr(inner, name)(*given, **named)

    return hook


for _name in _HOOKS:
    setattr(_OnFirstRank, _name, _passing(_name))


def on_first_rank(
    callbacks: Iterable[keras.callbacks.Callback], ring: Ring
) -> list[keras.callbacks.Callback]:
    """Return `callbacks`, those that write somewhere on the first live rank alone.

    Any rank may be the first one tomorrow, so all have them all.
    """
    return [_OnFirstRank(each, ring) if isinstance(each, WRITERS) else each for each in callbacks]
