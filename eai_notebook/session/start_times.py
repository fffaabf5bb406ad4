"""How long groups of this user took to start, kept so that a start can say how long it usually takes."""

from __future__ import annotations

import contextlib
import json
import statistics
from typing import TYPE_CHECKING, Final

import platformdirs

if TYPE_CHECKING:
    from pathlib import Path

KEPT: Final = 9
"""Starts of one kind that are kept; their median is the usual time."""


def usual(kind: str, folder: Path | None = None) -> float | None:
    """Return the median time of the latest starts of a `kind`, in seconds; None if none is known."""
    times = _read(_file(folder)).get(kind, [])
    return statistics.median(times) if times else None


def note(kind: str, seconds: float, folder: Path | None = None) -> None:
    """Keep the time that a start of a `kind` took, in seconds.

    What cannot be written is dropped: a start must not fail for it.

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> place = Path(tempfile.mkdtemp())
        >>> note("2 ranks here", 7.0, place)
        >>> usual("2 ranks here", place), usual("3 ranks here", place)
        (7.0, None)
    """
    file = _file(folder)
    known = _read(file)
    known[kind] = [*known.get(kind, []), round(seconds, 1)][-KEPT:]
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        draft = file.with_suffix(".tmp")
        draft.write_text(json.dumps(known))
        draft.replace(file)


def _file(folder: Path | None) -> Path:
    return (folder or platformdirs.user_cache_path("eai-notebook")) / "starts.json"


def _read(file: Path) -> dict[str, list[float]]:
    """Return what is kept; a file that is missing or damaged holds nothing."""
    try:
        known = json.loads(file.read_text())
        return {
            str(kind): [float(seconds) for seconds in times][-KEPT:]
            for kind, times in known.items()
        }
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
