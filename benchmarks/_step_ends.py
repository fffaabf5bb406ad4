"""`StepEnds`: when the steps of a training ended, for rank programs."""

from __future__ import annotations

import time
from typing import Any

import keras


class StepEnds(keras.callbacks.Callback):
    """Notes the time at the end of each step, in seconds of `time.perf_counter`."""

    def __init__(self) -> None:
        super().__init__()
        self.ends: list[float] = []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002
        """Note it."""
        self.ends.append(time.perf_counter())
