"""Release TensorFlow's iterators in the background.

tf.data tunes itself in a thread that sleeps up to a minute between two looks, and the code that frees an
iterator waits for that thread to end. On a busy machine it often does not end before its next look
(TensorFlow 2.21: 0.24 s after 0.4 s of work, more after more; never with tuning off). It seems to be
woken before it can see the request to end. After an interrupt the one who waits is the main
thread, deep in the garbage collector, and the rank does not listen.
"""

from __future__ import annotations

import queue
import threading
import time
import weakref
from functools import cache
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_PARTING_S: Final = 0.05
"""By when the thread that has dropped an iterator is through with it."""

_RESOURCE: Final = "_iterator_resource"
"""Where a `tf.data.Iterator` holds it; there is no public name."""

_known: weakref.WeakSet[Iterator[Any]] = weakref.WeakSet()


def release_in_background(iterator: Iterator[Any]) -> None:
    """Have a thread of its own free what `iterator` holds in TensorFlow, once nobody uses it.

    A queue in TensorFlow keeps hold of it until then, since the last one to let go waits.
    Asking twice changes nothing, and neither does asking for an iterator of another kind.

    Examples:
        >>> import tensorflow as tf
        >>> iterator = iter(tf.data.Dataset.range(3))
        >>> release_in_background(iterator)
        >>> [int(number) for number in iterator]
        [0, 1, 2]
    """
    if _RESOURCE not in getattr(iterator, "__dict__", ()) or iterator in _known:
        return
    import tensorflow as tf

    _known.add(iterator)
    hold = tf.queue.FIFOQueue(1, [tf.resource])
    hold.enqueue([getattr(iterator, _RESOURCE)])
    weakref.finalize(iterator, _left().put, [hold]).atexit = False


@cache
def _left() -> queue.SimpleQueue[list[Any]]:
    """Return where holds are put whose iterators are gone; a thread empties it."""
    holds: queue.SimpleQueue[list[Any]] = queue.SimpleQueue()
    threading.Thread(target=_empty, args=[holds], name="eai-iterators", daemon=True).start()
    return holds


def _empty(holds: queue.SimpleQueue[list[Any]]) -> None:
    while True:
        hold = holds.get()
        time.sleep(_PARTING_S)
        hold.clear()
