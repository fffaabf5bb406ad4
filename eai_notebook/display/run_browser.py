"""The panel's requests about earlier runs: list, open, compare, export."""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from eai_notebook.display.html_page import page
from eai_notebook.display.live_run import bundle
from eai_notebook.errors import EaiError
from eai_notebook.ledger.followed_run import read_run
from eai_notebook.ledger.formatting import ms
from eai_notebook.ledger.parts import BY_NAME, PARTS
from eai_notebook.ledger.perfetto_export import trace_text
from eai_notebook.ledger.retention import kept_run, remove
from eai_notebook.ledger.run_comparison import Change, compare_facts
from eai_notebook.ledger.run_differences import differences
from eai_notebook.ledger.run_record import RunRecord, list_runs, runs_folder
from eai_notebook.ledger.view_model import followed_view, record_view, section_view

if TYPE_CHECKING:
    from collections.abc import Callable

    from eai_notebook.ledger.facts import Facts

MOST_LISTED: Final = 100
LONGEST_NOTE: Final = 4000
LONGEST_TAG: Final = 40


def listed() -> list[dict[str, Any]]:
    """Return the recorded runs, newest first; a folder that cannot be read is left out."""
    entries = []
    for path in list_runs()[:MOST_LISTED]:
        try:
            record = RunRecord(path)
        except EaiError:
            continue
        info = record.info
        outcome = {"step_ms": None, "values": {}, "verdict": "", "kind": "unknown"} | info.meta.get(
            "outcome", {}
        )
        labels = record.labels()
        entries.append(
            {
                "folder": path.name,
                "name": info.name,
                "state": info.state,
                "started": info.started,
                "size": info.size,
                "hosts": sorted(set(info.hosts.values())),
                "ended": info.ended,
                "steps": max((record.count(rank) for rank in record.ranks), default=0),
                **outcome,
                "colour": BY_NAME.get(outcome["kind"], BY_NAME["other"]).colour,
                "starred": bool(labels.get("starred")),
                "note": str(labels.get("note") or ""),
                "tags": split_tags(labels.get("tags") or ""),
                "path": str(path),
            }
        )
    return entries


def renamed(folder: str, name: str) -> None:
    """Give a run another name."""
    if not name.strip():
        raise EaiError("a run needs a name", "enter one", code="run-unnamed")
    _record(folder).label(name=name.strip())


def starred(folder: str, on: bool) -> None:  # noqa: FBT001 - the panel sends it by name
    """Mark a run, or take its mark away."""
    _record(folder).label(starred=bool(on))


def noted(folder: str, note: str) -> None:
    """Write a note to a run, in place of the one before; an empty one takes it away."""
    _record(folder).label(note=note.strip()[:LONGEST_NOTE])


def tagged(folder: str, tags: str) -> None:
    """Give a run tags, in place of those before: words with commas or spaces between."""
    _record(folder).label(tags=", ".join(split_tags(tags)))


def split_tags(text: object) -> list[str]:
    """Return the tags in a text, each once.

    Examples:
        >>> split_tags("baseline, #fp16 fp16")
        ['baseline', 'fp16']
    """
    words = str(text).replace(",", " ").split()
    return list(dict.fromkeys(word.lstrip("#")[:LONGEST_TAG] for word in words if word.strip("#")))


def deleted(folder: str) -> None:
    """Delete a run's record from the disk; one that may still go on is kept."""
    record = _record(folder)
    kept = kept_run(record.path)
    if kept is None:
        what = f"the record of {record.info.name} belongs to another user"
        raise EaiError(what, "ask that user to delete it", code="run-not-yours")
    if kept.is_open(time.time()):
        what = f"run {record.info.name} is running, or was cut off within the last hour"
        raise EaiError(what, "stop it first, or delete it later", code="run-open")
    remove([kept])


def opened(folder: str) -> dict[str, Any]:
    """Return the view of a recorded run."""
    return record_view(_record(folder))


def compared(before: str, after: str) -> dict[str, Any]:
    """Return two runs side by side, what changed, and a sentence that says it."""
    one, two = (read_run(_record(folder)) for folder in (before, after))
    old, new = one.facts(), two.facts()
    found = compare_facts(old, new)
    differs = [*differences(one.info, two.info, (old.batch, new.batch)), *_stalls(old, new)]
    return {
        "before": followed_view(one),
        "after": followed_view(two),
        "differs": differs,
        "step": _plain(found.step),
        "parts": [_plain(found.parts[part]) for part in PARTS],
        "sentence": _sentence(found.step, str(found.slower) if found.slower else "", differs),
    }


def _stalls(old: Facts, new: Facts) -> list[str]:
    """Return how the stalls differ: the typical steps, which are compared, are without them."""
    if old.stalls is None and new.stalls is None:
        return []
    words = [
        "none" if each is None else f"{ms(each.lost)} a step" for each in (old.stalls, new.stalls)
    ]
    return [f"stalls {words[0]} -> {words[1]}"]


def picture(run: str) -> dict[str, Any]:
    """Return a run's picture for a notebook's cell, and the code that shows it again.

    ``run`` is the run's id, or the name of its folder.
    """
    record = _recorded(run)
    folder = os.path.relpath(record.path)
    # (In quotes by a rule: the folder's name may be somebody else's, and this is run as code.)
    code = f"import eai_notebook as eai\n\neai.show({json.dumps(Path(folder).as_posix())})"
    return {"data": bundle(record_view(record)), "code": code}


def section(run: str, first: int, stop: int) -> dict[str, Any]:
    """Return the steps from `first` up to but without `stop` of a run: ``run`` as for `picture`."""
    return section_view(_recorded(run), int(first), int(stop))


def saved_page(folder: str) -> dict[str, str]:
    """Return a run as an HTML file to save."""
    return {"name": f"{folder}.html", "type": "text/html", "text": page(_record(folder))}


def saved_trace(folder: str) -> dict[str, str]:
    """Return a run as a trace file to save."""
    text = trace_text(_record(folder))
    return {"name": f"{folder}.trace.json", "type": "application/json", "text": text}


COMMANDS: Final[dict[str, Callable[..., Any]]] = {
    "runs": listed,
    "open": opened,
    "rename": renamed,
    "star": starred,
    "note": noted,
    "tag": tagged,
    "delete": deleted,
    "compare": compared,
    "picture": picture,
    "section": section,
    "page": saved_page,
    "trace": saved_trace,
}
"""What the panel may ask for by name, with the arguments of the function."""


def _record(folder: str) -> RunRecord:
    """Open a record by the name of its folder, below the folder of runs only."""
    known = {path.name: path for path in list_runs()}
    if folder not in known:
        what = f"there is no run {folder} in {runs_folder()}"
        raise EaiError(what, "choose one of the list", code="run-unknown")
    return RunRecord(known[folder])


def _recorded(run: str) -> RunRecord:
    """Open a record by its run's id or by its folder's name."""
    for path in list_runs():
        if path.name == run or path.name.endswith(run[-8:]):
            with contextlib.suppress(EaiError):
                record = RunRecord(path)
                if run in (path.name, record.info.run):
                    return record
    what = f"there is no record of run {run} in {runs_folder()}"
    raise EaiError(what, "train it again", code="run-unknown")


def _sentence(step: Change, cause: str, differs: list[str]) -> str:
    said = _change(step, cause)
    return f"{said}; the runs differ in {', '.join(differs)}" if differs else said


def _change(step: Change, cause: str) -> str:
    if not math.isfinite(step.delta_ms):
        return "one of the runs has no measured steps: nothing to compare"
    if not step.is_sure:
        return f"no sure change: a step differs by {ms(step.delta_ms / 1e3)}, within its scatter"
    if step.delta_ms < 0:
        return f"a step is {ms(-step.delta_ms / 1e3)} shorter"
    because = f": {cause}" if cause else ""
    return f"a step is {ms(step.delta_ms / 1e3)} longer{because}"


def _plain(change: Change) -> dict[str, Any]:
    numbers = {
        "delta_ms": change.delta_ms,
        "low_ms": change.low_ms,
        "high_ms": change.high_ms,
        "before_ms": change.before_ms,
        "after_ms": change.after_ms,
    }
    finite = {name: value if math.isfinite(value) else None for name, value in numbers.items()}
    return {**finite, "sure": change.is_sure}
