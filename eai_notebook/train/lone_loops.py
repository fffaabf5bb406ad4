"""Custom training loops in which nothing is exchanged: each rank trains variables of its own.

Nothing in such a loop is ours, so its variables are watched: those that any gradient tape is asked
for the gradients of. At a cell's end each rank sends two sums of each variable that has changed,
and the session compares them. A loop that averages in a way of its own has equal ones.
"""

from __future__ import annotations

import functools
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from eai_notebook import collective
from eai_notebook.bookkeeping import TELEMETRY
from eai_notebook.telemetry import messages
from eai_notebook.train import lone_fits
from eai_notebook.train.autograph import not_converted
from eai_notebook.train.late_variables import has_value
from eai_notebook.train.sharded.sharded_variables import shard_of

if TYPE_CHECKING:
    from collections.abc import Callable

_SAMPLE: Final = 1024
"""How many elements of a variable are looked at."""

_MOST: Final = 256
"""How many variables are watched at most; one that drifts apart is enough to say so."""


@dataclass
class _Watched:
    variable: weakref.ref[Any]
    sums: tuple[float, float] | None
    stale: bool = False
    """Whether the last cell did not end well, and may have left it changed on some ranks only."""


_watched: dict[int, _Watched] = {}


def watch() -> None:
    """Note from now on which variables gradients are computed of, and compare them at cells' ends."""
    import tensorflow as tf

    tape: Any = tf.GradientTape
    if getattr(tape, "_eai_watched", False):
        return
    tape._eai_watched = True  # noqa: SLF001 -- our own mark
    tape.gradient = _noting(tape.gradient)
    messages.on_cell_end(send_changed)


def _noting(usual: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``GradientTape.gradient`` as it is, but that it notes the variables it is asked for."""

    @functools.wraps(usual)
    def gradient(self: Any, target: Any, sources: Any, *settings: Any, **more: Any) -> Any:
        if not lone_fits.is_fitting():  # what Keras's `fit` trains, `lone_fits` watches
            with messages.books.doing(TELEMETRY):
                note(sources)
        return usual(self, target, sources, *settings, **more)

    # How AutoGraph marks what it leaves alone.
    gradient.autograph_info__ = {}  # type: ignore[attr-defined]
    return gradient


@not_converted
def note(sources: Any) -> None:
    """Watch the variables among `sources`, a nesting of what gradients are computed of.

    Examples:
        >>> import tensorflow as tf
        >>> note([tf.Variable([1.0]), tf.constant(2.0)])
    """
    import tensorflow as tf

    if collective.size() == 1:
        return
    for variable in tf.nest.flatten(sources):
        known = _watched.get(id(variable))
        if known is not None and known.variable() is variable:
            continue
        if len(_watched) < _MOST and hasattr(variable, "assign") and shard_of(variable) is None:
            key = id(variable)
            gone = functools.partial(_forget, key)
            _watched[key] = _Watched(weakref.ref(variable, gone), _sums(variable))


def send_changed(outcome: str) -> None:
    """Send the sums of the variables that a cell's loop has changed; `outcome` is the cell's end.

    A cell that failed or was stopped may leave one rank a step ahead, and its peers blocked: there
    nothing is read.
    """
    changed: dict[str, Any] = {}
    for known in list(_watched.values()):
        if outcome != "done":
            known.stale = True
            continue
        variable = known.variable()
        if variable is None:
            continue
        before, known.sums = known.sums, _sums(variable)
        if known.sums not in (None, before) and not known.stale:
            name = str(getattr(variable, "path", variable.name))
            changed[name] = known.sums
        known.stale = False
    if changed and collective.size() > 1:
        messages.emit(messages.VariablesTrained(collective.rank(), changed))


def _forget(key: int, _gone: weakref.ref[Any]) -> None:
    _watched.pop(key, None)


def _sums(variable: Any) -> tuple[float, float] | None:
    """Return the sum and the sum of the magnitudes of some elements; None without a value."""
    import numpy as np
    import tensorflow as tf

    with tf.init_scope():
        if not tf.executing_eagerly() or not has_value(variable):
            return None
        flat = tf.reshape(tf.convert_to_tensor(variable), [-1])
        step = max(1, int(flat.shape[0]) // _SAMPLE)
        values = np.asarray(tf.cast(flat[::step][:_SAMPLE], tf.float64))
    return float(values.sum()), float(np.abs(values).sum())
