"""Publish this rank's telemetry to the kernel while a cell runs.

Messages travel on the engine's own output channel, bound to the running cell, so that
they arrive in order with its output and before its end.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from eai_notebook.telemetry import messages

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

KEY = "eai"
"""What the keys of our data messages begin with; the rest is a number, since ipyparallel
lets a later message overwrite an earlier one of the same key."""


def install(shell: Any) -> None:
    """Send this process's messages through `shell`'s data channel from now on."""
    numbers: Iterator[int] = itertools.count()

    def publish(batch: Sequence[messages.Message]) -> None:
        # What a message costs is the sending, whatever its size: several go in one.
        shell.data_pub.publish_data({f"{KEY}-{next(numbers)}": message for message in batch})

    messages.set_sink(publish)
