"""Deferred interrupts: Stop is noted and handled where it is safe.

`KeyboardInterrupt` comes between any two instructions: between the cell of rank 0 and that of
rank 1, or halfway through the ring, and then some ranks wait for others that received nothing.
"""

from __future__ import annotations

import signal
import threading
import time
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from types import FrameType

    from typing_extensions import Self

IMPATIENT_S: Final = 5.0
"""A press that nobody has taken note of for so long gives the next one its usual force."""


class DeferredInterrupt:
    """Notes, in a ``with`` block, that the user pressed Stop; one not taken is raised at its end.

    Only the main thread hears of presses. Where SIGINT is ignored, as in a background job, or left
    to the system, it stays so.
    """

    def __init__(self) -> None:
        self._before: Any = None
        self._pressed_at: float | None = None

    def __enter__(self) -> Self:
        """Begin to note."""
        usual = signal.getsignal(signal.SIGINT)
        if threading.current_thread() is threading.main_thread() and callable(usual):
            self._before = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Give Stop its usual force again, also to a press that came too late to be taken."""
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
        if kind is None and self.take():
            raise KeyboardInterrupt

    @property
    def is_pressed(self) -> bool:
        """Whether there is a press to be taken."""
        return self._pressed_at is not None

    def take(self) -> bool:
        """Return whether Stop was pressed since this was last asked."""
        pressed, self._pressed_at = self.is_pressed, None
        return pressed

    def _note(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._pressed_at is None:
            self._pressed_at = now
        elif now - self._pressed_at > IMPATIENT_S:
            self._before(number, frame)
