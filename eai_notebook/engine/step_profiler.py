"""Profile a few steps on request: TensorFlow's profiler and the collective's timeline.

The session asks on the control channel, also while a cell runs, and names the step to
begin with, so that all ranks record the same ones. What starting, stopping and reading
the two records takes lies between two steps and is booked to none.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from eai_notebook import collective
from eai_notebook.engine import tf_profile
from eai_notebook.errors import EaiError
from eai_notebook.telemetry import messages
from eai_notebook.telemetry.messages import ProfileTaken, Track

MOST_SPANS: Final = 200_000
"""Of all ranks together: a viewer opens more only with patience. The longest are kept."""

COMPILED: Final = 3
"""The first steps of a run still compile and plan; a trace does not begin before this one."""

AHEAD_S: Final = 0.3
"""A request must have reached every rank before the step it names."""


@dataclass
class Recording:
    """Steps `first` to `last` being recorded, into `folder`; `reached` is the latest taken."""

    run: str
    rank: int
    first: int
    last: int
    reached: int
    folder: tempfile.TemporaryDirectory[str] = field(
        default_factory=partial(tempfile.TemporaryDirectory, prefix="eai-trace-")
    )
    notes: list[str] = field(default_factory=list)
    _profiled: bool = False
    _timed: bool = False
    _library: str = ""

    @property
    def _timeline(self) -> Path:
        return Path(self.folder.name) / "timeline.json"

    def begin(self) -> None:
        """Switch the two records on; what cannot be is noted."""
        try:
            self._library = collective.backend_title()
            self._timed = collective.start_timeline(self._timeline)
        except EaiError as error:
            self.notes.append(f"{error.what}: {error.remedy}")
        try:
            tf_profile.start(Path(self.folder.name))
            self._profiled = True
        except Exception as error:  # noqa: BLE001 - TensorFlow's own profile may be on, or its library gone
            self.notes.append(f"TensorFlow's profiler did not start on rank {self.rank}: {error}")

    def end(self) -> ProfileTaken:
        """Switch them off, and return what they recorded."""
        tracks: list[Track] = []
        try:
            if self._profiled:
                tracks += tf_profile.stop(Path(self.folder.name))
        except Exception as error:  # noqa: BLE001 - a trace is worth less than the training
            self.notes.append(f"TensorFlow's profile of rank {self.rank} was lost: {error}")
        if self._timed:
            spans = collective.stop_timeline(self._timeline)
            tracks += exchange_tracks(spans, self._library)
        self.folder.cleanup()
        tracks, left_out = longest(tracks, MOST_SPANS // max(1, collective.size()))
        if left_out:
            self.notes.append(f"{left_out} of the shortest spans of rank {self.rank} left out")
        notes = tuple(self.notes)
        return ProfileTaken(self.run, self.rank, self.first, self.reached, tuple(tracks), notes)


def exchange_tracks(exchanges: list[collective.Exchange], library: str) -> list[Track]:
    """Return a track for each tensor that was exchanged by `library`."""
    by_tensor: dict[str, list[collective.Exchange]] = {}
    for each in exchanges:
        by_tensor.setdefault(each.tensor, []).append(each)
    tracks = []
    for tensor, stages in by_tensor.items():
        names = tuple(sorted({each.stage for each in stages}))
        tracks.append(
            Track(
                source=library,
                name=tensor,
                names=names,
                which=np.array([names.index(each.stage) for each in stages], np.int32),
                start=np.array([each.start for each in stages]),
                length=np.array([each.length for each in stages]),
            )
        )
    return tracks


def longest(tracks: list[Track], most: int) -> tuple[list[Track], int]:
    """Return the tracks with their `most` longest spans, and how many were left out."""
    lengths = np.concatenate([track.length for track in tracks]) if tracks else np.empty(0)
    if len(lengths) <= most:
        return tracks, 0
    least = np.partition(lengths, len(lengths) - most)[len(lengths) - most]
    kept = []
    for track in tracks:
        chosen = track.length >= least
        if chosen.any():
            parts = (track.which[chosen], track.start[chosen], track.length[chosen])
            kept.append(Track(track.source, track.name, track.names, *parts))
    return kept, len(lengths) - sum(len(track.which) for track in kept)


class DeepTrace:
    """What this rank records in depth, once it was asked to."""

    def __init__(self, rank: int) -> None:
        self._rank = rank
        self._asked: tuple[int, int] | None = None  # the first step, and how many
        self._recording: Recording | None = None

    def ask(self, first: int, steps: int) -> None:
        """Record `steps` steps from step `first` on, or from the next one if that is over."""
        self._asked = max(first, COMPILED), steps
        messages.add_step_listener(self._step_ended)

    def _step_ended(self, run: str, step: int | None) -> bool:
        """Begin or end recording at this edge between two steps, if it is time."""
        recording = self._recording
        if recording is not None:
            if step is not None:
                recording.reached = step
                if step < recording.last:
                    return False
            self._finish(recording)
            return True
        if step is None or self._asked is None or step + 1 < self._asked[0]:
            return False
        first, (_, steps) = step + 1, self._asked
        self._asked = None
        self._recording = Recording(run, self._rank, first, first + steps - 1, step)
        self._recording.begin()
        return True

    def _finish(self, recording: Recording) -> None:
        self._recording = None
        messages.remove_step_listener(self._step_ended)
        messages.emit(recording.end())


def pace(look_s: float = 0.2) -> tuple[int, int] | None:
    """Return how many steps the open run has taken, and how many a request should be ahead.

    None without a run. It takes ``look_s`` seconds to see how fast the steps go.
    """
    before, began = messages.steps_taken(), time.monotonic()
    if before is None:
        return None
    time.sleep(look_s)
    after = messages.steps_taken()
    if after is None or after < before:
        return None
    return after, steps_ahead(after - before, time.monotonic() - began)


def steps_ahead(taken: int, seconds: float) -> int:
    """Return how many steps ahead a request should be, after so many steps in so long.

    Examples:
        >>> steps_ahead(100, 1.0), steps_ahead(3, 6.0)
        (30, 2)
    """
    return max(2, round(AHEAD_S * taken / seconds))
