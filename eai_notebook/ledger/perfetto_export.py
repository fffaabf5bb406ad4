"""Export a run as a trace for Perfetto: every step of every rank on one clock.

The format is the Trace Event Format of Chrome's tracing, which ui.perfetto.dev opens: a
rank is a process, its parts lie on one track, communication beside compute on another.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from eai_notebook.ledger.merge import Ledger, merge
from eai_notebook.ledger.parts import ADDED, COMPUTE, INPUT, OTHER, PARTS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from eai_notebook.ledger.arrays import Floats
    from eai_notebook.ledger.run_record import RunInfo, RunRecord

MOST_EVENTS: Final = 400_000
"""More than this a trace viewer opens only with patience: the latest steps are kept."""

EVENTS_A_STEP: Final = len(PARTS) + 2

_BEFORE_BATCH: Final = tuple(PARTS.index(part.name) for part in ADDED if not part.after_exchange)
_FROM_BATCH: Final = tuple(
    part for part in range(len(PARTS)) if part not in (OTHER, *_BEFORE_BATCH)
)

STEPS_TRACK, PARTS_TRACK, HIDDEN_TRACK = 0, 1, 2
_TRACKS: Final = {STEPS_TRACK: "steps", PARTS_TRACK: "parts", HIDDEN_TRACK: "hidden communication"}

Event = dict[str, Any]


def trace(record: RunRecord) -> dict[str, Any]:
    """Return a run as a JSON object of the Trace Event Format; times in it are microseconds.

    All stamps are on rank 0's clock and count from the first of them. A run too long for
    a viewer keeps its latest steps.

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from eai_notebook.telemetry.messages import RunBegan, StepsDone
        >>> from eai_notebook.ledger.run_record import RunRecord
        >>> from eai_notebook.ledger.step_schema import empty_steps
        >>> record = RunRecord.create(Path(tempfile.mkdtemp()), RunBegan("r", 0, 1, "fit", "a", 1))
        >>> record.add(RunBegan("r", 0, 1, "fit", "a", 1))
        >>> rows = empty_steps(1)
        >>> rows["begin"], rows["end"], rows["compute"] = 5.0, 6.0, 0.75
        >>> record.add(StepsDone("r", 0, rows))
        >>> [(event["name"], event["dur"]) for event in trace(record)["traceEvents"]
        ...     if event["ph"] == "X"]
        [('step 0', 1000000.0), ('compute', 750000.0), ('other', 250000.0)]
    """
    info = record.info
    keep = max(1, MOST_EVENTS // (EVENTS_A_STEP * max(1, info.size)))
    rows = {rank: record.rows(rank)[-keep:] for rank in record.ranks}
    begins = [
        float(own["begin"][0]) + info.clock_offset[rank] for rank, own in rows.items() if len(own)
    ]
    zero = min(begins, default=0.0)
    ledger = merge(rows, info.clock_offset, info.clock_uncertainty)
    return {
        "displayTimeUnit": "ms",
        "otherData": {"run": info.name, "state": info.state, "began_s": zero},
        "traceEvents": list(span_events(info, rows, ledger, zero)),
    }


def span_events(
    info: RunInfo, rows: Mapping[int, np.ndarray], ledger: Ledger, zero: float
) -> Iterator[Event]:
    """Yield the steps of each rank and their parts; ``zero`` is when the trace begins."""
    for position, rank in enumerate(ledger.ranks):
        at = np.searchsorted(ledger.steps, rows[rank]["step"])
        offset = info.clock_offset.get(rank, 0.0) - zero
        yield from _names(info, rank)
        yield from _rank_events(rank, rows[rank], ledger.parts[position, at], offset)


def trace_text(record: RunRecord) -> str:
    """Return the trace of a run as the text of a ``.json`` file."""
    return json.dumps(trace(record), allow_nan=False, separators=(",", ":"))


def _names(info: RunInfo, rank: int) -> Iterator[Event]:
    where = f"rank {rank} on {info.hosts.get(rank, '?')}"
    yield {"ph": "M", "pid": rank, "name": "process_name", "args": {"name": where}}
    yield {"ph": "M", "pid": rank, "name": "process_sort_index", "args": {"sort_index": rank}}
    for track, name in _TRACKS.items():
        yield track_name(rank, track, name)


def track_name(process: int, track: int, name: str) -> Event:
    """Return what names a track."""
    args = {"name": name}
    return {"ph": "M", "pid": process, "tid": track, "name": "thread_name", "args": args}


def _rank_events(rank: int, rows: np.ndarray, parts: Floats, offset: float) -> Iterator[Event]:
    for row, lengths in zip(rows, parts, strict=True):
        begin, end = float(row["begin"]) + offset, float(row["end"]) + offset
        if not end > begin:
            continue  # a step that was not measured
        ready = float(row["ready"]) + offset
        yield _event(rank, STEPS_TRACK, f"step {row['step']}", begin, end - begin)
        for name, start, length in _spans(begin, end, ready, lengths):
            yield _event(rank, PARTS_TRACK, name, start, length)
        if row["hidden"] > 0 and np.isfinite(ready):
            hidden = float(row["hidden"])
            yield _event(rank, HIDDEN_TRACK, "hidden", ready - hidden, hidden)


def _spans(
    begin: float, end: float, ready: float, lengths: Floats
) -> Iterator[tuple[str, float, float]]:
    """Place the parts of a step in time; what is left between them is `other`.

    When the gradients were ready is known; input and compute lie before it and the rest
    behind. Without that stamp the parts follow each other from the step's begin.
    """
    known = np.nan_to_num(lengths)
    before = known[INPUT] + known[COMPUTE]
    batch = begin if not np.isfinite(ready) else max(begin, ready - before)
    at = begin
    for part in _BEFORE_BATCH:
        length = min(float(known[part]), batch - at) if np.isfinite(ready) else float(known[part])
        if length > 0:
            yield PARTS[part], at, length
            at += length
    if batch > at:
        yield "other", at, batch - at
    at = max(at, batch)
    for part in _FROM_BATCH:
        if known[part] > 0:
            yield PARTS[part], at, float(known[part])
            at += float(known[part])
    if end > at:
        yield "other", at, end - at


def _event(rank: int, track: int, name: str, start: float, length: float) -> Event:
    return {
        "ph": "X",
        "pid": rank,
        "tid": track,
        "name": name,
        "ts": round(1e6 * start, 1),
        "dur": round(1e6 * length, 1),
    }
