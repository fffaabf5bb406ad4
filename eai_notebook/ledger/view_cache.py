"""Keep the views of long runs, so that a run of a million steps opens at once.

Making a view reads every row of the record. What is kept lies in the user's own cache, not in the
record: a record may be somebody else's, and a view is drawn as it is.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, Final

import platformdirs

from eai_notebook import __version__
from eai_notebook.errors import EaiError
from eai_notebook.files import keep_newest, private_folder, write_private
from eai_notebook.ledger.parts import ADDED, PARTS

if TYPE_CHECKING:
    from pathlib import Path

    from eai_notebook.ledger.run_record import RunRecord

LEAST_ROWS: Final = 200_000
"""Of all ranks together: a shorter run is read in a fraction of a second."""

MOST_KEPT: Final = 200


def find(record: RunRecord, schema: int) -> dict[str, Any] | None:
    """Return the view of a record as it is on disk now; None if it is not kept."""
    if not _is_long(record):
        return None
    try:
        view: dict[str, Any] = json.loads(_file(record, schema).read_text())
        view["run"]["name"] = record.info.name  # a run that is renamed stays the same
    except (OSError, ValueError, KeyError, TypeError, EaiError):
        return None
    return view


def keep(record: RunRecord, schema: int, view: dict[str, Any]) -> None:
    """Keep the view of a run that has ended; what cannot be written is made again."""
    if not _is_long(record):
        return
    try:
        file = _file(record, schema)
        write_private(file, json.dumps(view))
        keep_newest(file.parent, "*.json", MOST_KEPT)
    except (OSError, EaiError):
        return


def _is_long(record: RunRecord) -> bool:
    is_over = record.info.state != "running"
    return is_over and sum(record.count(rank) for rank in record.ranks) >= LEAST_ROWS


def _file(record: RunRecord, schema: int) -> Path:
    """Return where the view of a record lies: another content, another file."""
    files = sorted(
        (path.name, path.stat().st_size)
        for path in record.path.iterdir()
        if path.suffix in (".steps", ".jsonl")
    )
    what = [__version__, schema, PARTS, [part.style() for part in ADDED], files]
    key = hashlib.sha256(json.dumps(what).encode())
    for name in ("run.json", "vitals.json"):
        if (path := record.path / name).exists():
            key.update(path.read_bytes())
    folder = private_folder(platformdirs.user_cache_path("eai-notebook") / "views")
    return folder / f"{key.hexdigest()[:32]}.json"
