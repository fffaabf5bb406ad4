"""`Named`: seconds of a step's `other` by name: callbacks, iterators, garbage collection.

The graph's marks say when a step's parts were. What goes on in Python between two steps they do
not see, so it would all be `other`; here each known cause is timed by its own name.
"""

from __future__ import annotations

import gc
import threading
import time
from typing import Any, Final

import numpy as np

from eai_notebook.ledger.step_schema import ADDED_COLUMNS, NOTED

_NOTHING: Final = np.zeros(len(NOTED))
"""Of most steps nothing was noted."""


class Named:
    """Seconds by name: those of the current step by column, and all since the run began.

    Examples:
        >>> named = Named()
        >>> named.add("callback", 0.25, "Slow.on_train_batch_end")
        >>> named.take().tolist(), named.take().tolist()
        ([0.25, 0.0, 0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
        >>> named.spent
        {'callback Slow.on_train_batch_end': 0.25}
    """

    def __init__(self) -> None:
        self.spent: dict[str, float] = {}
        self.noted = 0.0
        """All that was noted so far, in seconds: who times a block leaves out what was noted in it."""
        self.of_step: dict[str, float] = {}
        """Seconds of the current step by column; most steps have none."""
        self._thread = threading.get_ident()
        self._began: float | None = None

    def add(self, kind: str, seconds: float, name: str = "") -> None:
        """Note what a thing of a kind of `NAMED` took in this step; or between steps, `BETWEEN`.

        A section for which a part is installed is booked to the part's column.
        """
        key = f"{kind} {name}".strip()
        self.spent[key] = self.spent.get(key, 0.0) + seconds
        self.noted += seconds
        column = name if kind == "section" and name in ADDED_COLUMNS else kind
        if column in NOTED:
            self.of_step[column] = self.of_step.get(column, 0.0) + seconds

    @property
    def is_own_thread(self) -> bool:
        """Whether the calling thread is the one that trains."""
        return threading.get_ident() == self._thread

    @property
    def in_step(self) -> float:
        """What was noted in the current step so far, in seconds."""
        return sum(self.of_step.values())

    def take(self) -> Any:
        """Return the seconds of the step that ends now, in the order of `NOTED`."""
        if not self.of_step:
            return _NOTHING
        taken = np.array([self.of_step.get(column, 0.0) for column in NOTED])
        self.drop()
        return taken

    def drop(self) -> None:
        """Begin a step anew: what was noted since the last one belongs to none."""
        self.of_step = {}

    def watch_collector(self) -> None:
        """Time the garbage collector until `close`."""
        gc.callbacks.append(self._on_collector)

    def close(self) -> None:
        """Let the garbage collector alone."""
        if self._on_collector in gc.callbacks:
            gc.callbacks.remove(self._on_collector)

    def _on_collector(self, phase: str, info: dict[str, int]) -> None:  # noqa: ARG002 -- gc's form
        if not self.is_own_thread:
            return
        if phase == "start":
            self._began = time.perf_counter()
        elif self._began is not None:
            seconds = time.perf_counter() - self._began
            self._began = None
            self.add("collector", seconds)
