"""Record Horovod's timeline for a few steps, and read it."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any, Final

from eai_notebook.collective.backend import Exchange
from eai_notebook.errors import EaiError

if TYPE_CHECKING:
    from pathlib import Path

_PATIENCE_S: Final = 2.0


def start(hvd: Any, file: Path) -> None:
    """Begin to record into `file`.

    Raises:
        EaiError: The user's ``HOROVOD_TIMELINE`` records to a file of its own already.
    """
    try:
        hvd.start_timeline(str(file))
    except ValueError as error:
        named = os.environ.get("HOROVOD_TIMELINE", "")
        what = f"Horovod's timeline cannot be switched on (HOROVOD_TIMELINE is {named!r})"
        remedy = "unset it, and start the group again"
        raise EaiError(what, remedy, code="timeline-in-use") from error


def stop(hvd: Any, file: Path) -> list[Exchange]:
    """End the record and return what is in it; `hvd` is None where Horovod was shut down."""
    if hvd is not None:
        hvd.stop_timeline()
    deadline = time.monotonic() + _PATIENCE_S
    # Another thread writes it: it is whole when its list is closed.
    while time.monotonic() < deadline:
        text = file.read_text() if file.exists() else ""
        if text.rstrip().endswith("]"):
            return read_timeline(text)
        time.sleep(0.01)
    return []


def read_timeline(text: str) -> list[Exchange]:
    """Return the stages in a timeline, each when it has ended.

    Examples:
        >>> read_timeline('''[
        ... {"name": "process_name", "ph": "M", "pid": 0,
        ...  "args": {"start_time_since_epoch_in_micros": 5000000}},
        ... {"name": "process_name", "ph": "M", "pid": 1, "args": {"name": "grad"}},
        ... {"ph": "B", "name": "ALLREDUCE", "ts": 1000000, "pid": 1},
        ... {"ph": "E", "ts": 1500000, "pid": 1}]''')
        [Exchange(tensor='grad', stage='ALLREDUCE', start=6.0, length=0.5)]
    """
    zero = 0.0
    tensors: dict[int, str] = {}
    open_stages: dict[int, list[dict[str, Any]]] = {}
    found = []
    for event in json.loads(text):
        track = event.get("pid", 0)
        arguments = event.get("args", {})
        if event["ph"] == "M":
            zero = arguments.get("start_time_since_epoch_in_micros", zero)
            if event["name"] == "process_name" and "name" in arguments:
                tensors[track] = arguments["name"]
        elif event["ph"] == "B":
            open_stages.setdefault(track, []).append(event)
        elif event["ph"] == "E" and open_stages.get(track):
            begun = open_stages[track].pop()
            start, length = zero + begun["ts"], event["ts"] - begun["ts"]
            found.append(
                Exchange(tensors.get(track, "?"), begun["name"], 1e-6 * start, 1e-6 * length)
            )
    return found
