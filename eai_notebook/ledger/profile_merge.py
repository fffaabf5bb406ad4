"""Merge the profiles of all ranks on one clock and summarize them.

The file is of the Trace Event Format, as the trace of a whole run is (`ledger.trace`): a
rank is a process, with its steps and parts, and below them TensorFlow's threads; what
Horovod exchanged is a process of its own, with a track for each tensor.
"""

from __future__ import annotations

import json
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from eai_notebook.ledger.formatting import ms, span
from eai_notebook.ledger.merge import Ledger, merge
from eai_notebook.ledger.perfetto_export import Event, span_events, track_name
from eai_notebook.ledger.verdict import verdict
from eai_notebook.ledger.waiting import FEWEST_STEPS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from eai_notebook.ledger.run_record import RunRecord
    from eai_notebook.telemetry.messages import ProfileTaken, Track

FIRST_THREAD: Final = 100
"""Track numbers below belong to the steps and their parts."""

MOST_NAMED: Final = 4
"""Number of operations named in the summary; the file has all."""

EXCHANGED: Final = ("ALLREDUCE", "ALLGATHER", "ALLTOALL", "BROADCAST", "REDUCESCATTER", "ADASUM")
"""The stage of a tensor's way that has all others of its exchange within it."""


def write(record: RunRecord, taken: Mapping[int, ProfileTaken]) -> tuple[Path, str]:
    """Write the trace into the run's folder; return the file, and what is in it in words.

    ``taken`` is what each rank recorded. Steps that only some ranks recorded are in the
    file; the words are about those that all did.
    """
    first = max(each.first for each in taken.values())
    last = min(each.last for each in taken.values())
    file = record.path / f"trace-steps-{first}-{last}.json"
    rows = {rank: _between(record, rank, each.first, each.last) for rank, each in taken.items()}
    ledger = merge(rows, record.info.clock_offset, record.info.clock_uncertainty)
    zero = min(
        (
            float(own["begin"][0]) + record.info.clock_offset.get(rank, 0.0)
            for rank, own in rows.items()
            if len(own)
        ),
        default=0.0,
    )
    events = [*span_events(record.info, rows, ledger, zero), *_deep_events(record, taken, zero)]
    content = {
        "displayTimeUnit": "ms",
        "otherData": {"run": record.info.name, "steps": f"{first}-{last}", "began_s": zero},
        "traceEvents": events,
    }
    file.write_text(json.dumps(content, allow_nan=False, separators=(",", ":")))
    common = ledger.select((ledger.steps >= first) & (ledger.steps <= last))
    return file, describe_profile(common, taken)


def describe_profile(ledger: Ledger, taken: Mapping[int, ProfileTaken]) -> str:
    """Return what was recorded, in words; ``ledger`` has the steps that all ranks recorded."""
    ranks = list(ledger.ranks)
    count = len(ledger.steps)
    if count == 0:
        return "no step was recorded by all ranks"
    about = f"steps {ledger.steps[0]} to {ledger.steps[-1]} of {span(ranks)} in depth"
    lines = [f"{about}: {ms(float(np.nanmean(ledger.wall)))} a step"]
    if count >= FEWEST_STEPS:
        lines.append(verdict(ledger).sentence)
    lines += [line for line in (_of_tensorflow(taken), _of_horovod(taken)) if line]
    lines += [note for each in taken.values() for note in each.notes]
    return "\n".join(lines)


def self_times(track: Track) -> dict[str, float]:
    """Return the seconds that each name of a track spent by itself, without what is within it.

    Examples:
        >>> from eai_notebook.telemetry.messages import Track
        >>> self_times(Track("TensorFlow", "python", ("step", "dense:MatMul"),
        ...     np.array([0, 1]), np.array([0.0, 1.0]), np.array([4.0, 2.5])))
        {'step': 1.5, 'dense:MatMul': 2.5}
    """
    own: dict[str, float] = dict.fromkeys(track.names, 0.0)
    within: list[tuple[float, str]] = []
    # Of spans that begin together the longer one encloses the others.
    for index in np.lexsort((-track.length, track.start)):
        start, length = float(track.start[index]), float(track.length[index])
        while within and within[-1][0] <= start:
            within.pop()
        name = track.names[track.which[index]]
        if within:
            own[within[-1][1]] -= min(length, within[-1][0] - start)
        own[name] += length
        within.append((start + length, name))
    return own


def _of_tensorflow(taken: Mapping[int, ProfileTaken]) -> str:
    """Return the operations that took longest, a step and rank; ``x/dense:MatMul`` is a `MatMul`."""
    spent: dict[str, float] = defaultdict(float)
    steps = sum(each.last - each.first + 1 for each in taken.values())
    for track in _tracks(taken, "TensorFlow"):
        for name, seconds in self_times(track).items():
            _, colon, operation = name.rpartition(":")
            if colon and operation.isidentifier() and "::" not in name:
                # On CPUs, oneDNN's own replace TensorFlow's: a `_MklMatMul` is a product, too.
                spent[operation.removeprefix("_Mkl").removeprefix("Native")] += seconds
    if not spent or steps == 0:
        return ""
    longest = [f"{name} {ms(time / steps)}" for name, time in _longest(spent)]
    return f"TensorFlow's longest operations, a step of a rank: {', '.join(longest)}"


def _of_horovod(taken: Mapping[int, ProfileTaken]) -> str:
    """Return how often tensors were exchanged, how long that took, and which took longest."""
    moved: dict[str, float] = defaultdict(float)
    count, agreed, busy = 0, 0.0, 0.0
    steps = 0
    for each in taken.values():
        tracks = [track for track in each.tracks if track.source == "Horovod"]
        steps += (each.last - each.first + 1) if tracks else 0
        spans: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
        for track in tracks:
            for name, start, length in _named(track):
                if name in EXCHANGED:
                    moved[track.name] += length
                    count += 1
                if name in EXCHANGED or name.startswith("NEGOTIATE"):
                    spans[name in EXCHANGED].append((start, start + length))
        busy += union(spans[True])
        agreed += union(spans[False])
    if not moved:
        return ""
    longest, seconds = _longest(moved)[0]
    return (
        f"Horovod, a step: {count / steps:.3g} exchanges, {ms(agreed / steps)} until all ranks had "
        f"their tensors there and {ms(busy / steps)} moving them, what overlaps counted once; "
        f"longest `{longest}`, {ms(seconds / steps)}"
    )


def union(spans: Sequence[tuple[float, float]]) -> float:
    """Return how long at least one of some spans, each from begin to end, went on.

    Examples:
        >>> union([(0.0, 2.0), (1.0, 3.0), (5.0, 6.0)])
        4.0
    """
    total, until = 0.0, float("-inf")
    for begin, end in sorted(spans):
        total += max(0.0, end - max(begin, until))
        until = max(until, end)
    return total


def _deep_events(
    record: RunRecord, taken: Mapping[int, ProfileTaken], zero: float
) -> Iterator[Event]:
    """Yield what the profilers recorded, on rank 0's clock."""
    horovod = max(record.info.size, *taken) + 1
    for rank, each in taken.items():
        offset = record.info.clock_offset.get(rank, 0.0) - zero
        for index, track in enumerate(each.tracks):
            process, thread = rank, FIRST_THREAD + index
            if track.source == "Horovod":
                process = horovod
            yield track_name(process, thread, f"{track.source}: {track.name}")
            for name, start, length in zip(
                (track.names[which] for which in track.which),
                track.start,
                track.length,
                strict=True,
            ):
                yield {
                    "ph": "X",
                    "pid": process,
                    "tid": thread,
                    "name": name,
                    "ts": round(1e6 * (float(start) + offset), 3),
                    "dur": round(1e6 * float(length), 3),
                }
    if any(True for _ in _tracks(taken, "Horovod")):
        name = {"name": "Horovod's exchanges, as rank 0 saw them"}
        yield {"ph": "M", "pid": horovod, "name": "process_name", "args": name}
        order = {"sort_index": horovod}
        yield {"ph": "M", "pid": horovod, "name": "process_sort_index", "args": order}


def _longest(spent: Mapping[str, float]) -> list[tuple[str, float]]:
    """Return the few names with most seconds, the most first."""
    return sorted(spent.items(), key=lambda item: -item[1])[:MOST_NAMED]


def _named(track: Track) -> Iterator[tuple[str, float, float]]:
    for which, start, length in zip(track.which, track.start, track.length, strict=True):
        yield track.names[which], float(start), float(length)


def _tracks(taken: Mapping[int, ProfileTaken], source: str) -> Iterator[Track]:
    for each in taken.values():
        yield from (track for track in each.tracks if track.source == source)


def _between(record: RunRecord, rank: int, first: int, last: int) -> np.ndarray:
    """Return a rank's rows of some steps; its record holds one row a step, in order."""
    rows = record.rows(rank)
    wanted: Any = (rows["step"] >= first) & (rows["step"] <= last)
    return np.asarray(rows[wanted])


def deep_traces(record: RunRecord) -> Sequence[Path]:
    """Return the traces in depth of a run, the newest last."""
    return sorted(record.path.glob("trace-steps-*.json"), key=lambda file: file.stat().st_mtime)
