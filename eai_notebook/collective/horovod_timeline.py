"""Record Horovod's timeline for a few steps.

Only the ring's first rank writes one: it decides for all when a tensor is exchanged.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from eai_notebook.collective.membership import horovod, is_formed, rank, size
from eai_notebook.errors import EaiError

if TYPE_CHECKING:
    from pathlib import Path

_PATIENCE_S: Final = 2.0


@dataclass(frozen=True)
class Exchange:
    """One stage of a tensor's way: times in seconds since the epoch, on this rank's clock."""

    tensor: str
    stage: str
    start: float
    length: float


def start_timeline(file: Path) -> bool:
    """Begin to record into `file`; return whether this rank is the one that records.

    Raises:
        EaiError: The user's ``HOROVOD_TIMELINE`` records to a file of its own already.

    """
    if not is_formed() or size() == 1 or rank() != 0:
        return False
    try:
        horovod().start_timeline(str(file))
    except ValueError as error:
        named = os.environ.get("HOROVOD_TIMELINE", "")
        what = f"Horovod's timeline cannot be switched on (HOROVOD_TIMELINE is {named!r})"
        raise EaiError(what, "unset it, and start the group again") from error
    return True


def stop_timeline(file: Path) -> list[Exchange]:
    """End the record and return what is in it; empty if the ring was released meanwhile."""
    if is_formed():
        horovod().stop_timeline()
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
        place = event.get("pid", 0)
        arguments = event.get("args", {})
        if event["ph"] == "M":
            zero = arguments.get("start_time_since_epoch_in_micros", zero)
            if event["name"] == "process_name" and "name" in arguments:
                tensors[place] = arguments["name"]
        elif event["ph"] == "B":
            open_stages.setdefault(place, []).append(event)
        elif event["ph"] == "E" and open_stages.get(place):
            begun = open_stages[place].pop()
            start, length = zero + begun["ts"], event["ts"] - begun["ts"]
            found.append(
                Exchange(tensors.get(place, "?"), begun["name"], 1e-6 * start, 1e-6 * length)
            )
    return found
