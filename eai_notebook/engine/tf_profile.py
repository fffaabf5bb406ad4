"""TensorFlow's profiler for a few steps, as tracks of named spans."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from eai_notebook.telemetry.messages import Track

if TYPE_CHECKING:
    from pathlib import Path

_PASTIME: Final = ("ThreadpoolListener::", "MemoryAllocation", "MemoryDeallocation")
"""What the threads note about themselves: ten times as many as there are operations."""

_HOST, _STARTED = "Task Environment", "profile_start_time"


def start(folder: Path) -> None:
    """Begin to profile into `folder`: operations and devices, not Python's own functions."""
    import tensorflow as tf

    options = tf.profiler.experimental.ProfilerOptions(
        host_tracer_level=2, python_tracer_level=0, device_tracer_level=1
    )
    tf.profiler.experimental.start(str(folder), options=options)


def stop(folder: Path) -> list[Track]:
    """End it and return the tracks of all threads and devices, on this rank's clock."""
    import tensorflow as tf
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    tf.profiler.experimental.stop()
    tracks = []
    for file in sorted(folder.glob("plugins/profile/*/*.xplane.pb")):
        space = xplane_pb2.XSpace()
        space.ParseFromString(file.read_bytes())
        zero = _started(space)
        for plane in space.planes:
            tracks += [_track(plane, line, zero) for line in plane.lines]
    return [track for track in tracks if len(track.which)]


def _started(space: Any) -> float:
    """Return when the profile began, which all of its times count from, in seconds."""
    for plane in space.planes:
        for stat in plane.stats:
            if plane.name == _HOST and plane.stat_metadata[stat.metadata_id].name == _STARTED:
                return 1e-9 * float(stat.uint64_value)
    return 0.0


def _track(plane: Any, line: Any, zero: float) -> Track:
    """Return one line of a profile; moments without a length and pastimes are left out."""
    names: dict[str, int] = defaultdict(lambda: len(names))
    spans = []
    for event in line.events:
        name = plane.event_metadata[event.metadata_id].name
        if event.duration_ps > 0 and not name.startswith(_PASTIME):
            spans.append((names[name], event.offset_ps, event.duration_ps))
    table = np.array(spans, np.float64).reshape(-1, 3)
    where = plane.name.removeprefix("/host:")
    thread = line.display_name or line.name or str(line.id)
    return Track(
        source="TensorFlow",
        name=thread.partition("/")[0] if where == "CPU" else f"{where} {thread}",
        names=tuple(names),
        which=table[:, 0].astype(np.int32),
        start=zero + 1e-9 * line.timestamp_ns + 1e-12 * table[:, 1],
        length=1e-12 * table[:, 2],
    )
