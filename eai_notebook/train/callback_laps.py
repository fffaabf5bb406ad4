"""Time the user's callbacks one by one: a stopwatch stands between each two of their list."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import keras

from eai_notebook.ledger.context import BETWEEN
from eai_notebook.train.recording import step_clock

if TYPE_CHECKING:
    from collections.abc import Iterable

_SAVE: Final = ("Checkpoint", "ModelCheckpoint", "BackupAndRestore")
"""Classes of callbacks, ours and Keras's, whose time is spent on saving."""

_IN_STEP: Final = ("on_train_batch_begin", "on_train_batch_end", "on_batch_begin", "on_batch_end")


class Lap(keras.callbacks.Callback):  # type: ignore[misc,unused-ignore]
    """Stands behind a callback in the list and notes how long that one's hooks took.

    So nothing of the user's is touched. The first of them stands in front of all.
    """

    def __init__(self, behind: keras.callbacks.Callback | None, watch: Stopwatch) -> None:
        super().__init__()
        self._watch = watch
        # What each hook's time is booked to, worked out once: a lap is a part of each step.
        hooks = ("on_epoch_begin", "on_epoch_end", *_IN_STEP[:2])
        self._books = {hook: _book(behind, hook) for hook in hooks}

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Note what the callback did."""
        self._watch.lap(self._books["on_epoch_begin"])

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Note what the callback did."""
        self._watch.lap(self._books["on_epoch_end"])


class BatchLap(Lap):
    """Does so for each batch, too.

    A class of its own, because Keras runs callbacks beside the next step only if none has a
    hook on batches.
    """

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Note what the callback did."""
        self._watch.lap(self._books["on_train_batch_begin"])

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Note what the callback did."""
        self._watch.lap(self._books["on_train_batch_end"])


class Stopwatch:
    """Times the callbacks of a list one after another."""

    def __init__(self) -> None:
        self._began = 0.0
        self._noted = 0.0

    def lap(self, book: tuple[str, str] | None) -> None:
        """Book the time since the last lap to a kind and name; to none where nothing was done."""
        running = step_clock.current()
        if running is None:
            self._began, self._noted = time.perf_counter(), 0.0
            return
        named = running.named
        if book is not None:
            own = time.perf_counter() - self._began - (named.noted - self._noted)
            named.add(book[0], max(0.0, own), book[1])
        self._began = time.perf_counter()
        self._noted = named.noted


def timed(users: Iterable[keras.callbacks.Callback]) -> list[keras.callbacks.Callback]:
    """Return callbacks with a `Lap` in front and behind each, for batches where one sees these.

    Examples:
        >>> [type(each).__name__ for each in timed([keras.callbacks.EarlyStopping()])]
        ['Lap', 'EarlyStopping', 'Lap']
    """
    users, watch = list(users), Stopwatch()
    batches = any(_overrides(user, hook) for user in users for hook in _IN_STEP[:2])
    kind = BatchLap if batches else Lap
    if not users:
        return []
    listed: list[keras.callbacks.Callback] = [kind(None, watch)]
    for user in users:
        listed += [user, kind(user, watch)]
    return listed


def _book(callback: keras.callbacks.Callback | None, hook: str) -> tuple[str, str] | None:
    """Return the kind and the name that what a callback does in a hook is booked to."""
    if callback is None or not _overrides(callback, hook):
        return None
    kind = _kind(callback) if hook in _IN_STEP else BETWEEN
    return kind, f"{type(callback).__name__}.{hook}"


def _kind(callback: keras.callbacks.Callback) -> str:
    saves = any(base.__name__ in _SAVE for base in type(callback).__mro__)
    return "checkpoint" if saves else "callback"


def _overrides(callback: keras.callbacks.Callback, hook: str) -> bool:
    """Return whether a callback does something of its own in a hook, or the older one of its name."""
    base = keras.callbacks.Callback
    names = (hook, hook.replace("on_train_", "on_"))
    return any(getattr(type(callback), each) is not getattr(base, each) for each in names)
