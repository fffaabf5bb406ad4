"""Checkpoint files: written atomically, verified by checksum.

A file is written under another name, brought to the disk, and then renamed: a process
that is killed on the way leaves the checkpoints before it as they were. The files are
NumPy archives, which carry a checksum of every array, and nothing in them is pickled.
"""

from __future__ import annotations

import json
import os
import re
import zipfile
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from eai_notebook.bookkeeping import say
from eai_notebook.errors import EaiError
from eai_notebook.telemetry import training_progress

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FORMAT: Final = 1
_NAME: Final = "checkpoint-{:010d}.npz"
_FILES: Final = "checkpoint-*.npz"
_OURS: Final = re.compile(r"checkpoint-\d{10}\.npz")
_UNFINISHED: Final = ".checkpoint-*.part"
_DAMAGE: Final = (
    *(OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error),
    *(TypeError, AttributeError, RecursionError, MemoryError),  # of a head that is another one's
)


@dataclass
class Snapshot:
    """What a checkpoint holds.

    Attributes:
        arrays: Lists of arrays of any shape and dtype, by what they are.
        about: Everything else, as JSON can hold it.
    """

    arrays: dict[str, list[np.ndarray]]
    about: dict[str, Any] = field(default_factory=dict)


def write(folder: Path, number: int, snapshot: Snapshot, keep: int) -> Path:
    """Write `snapshot` and return its file; only the `keep` last files stay.

    Args:
        folder: Made if need be; only one process may write to it.
        number: What orders the files of a folder; an equal one is replaced.
        snapshot: What to write.
        keep: How many to keep.

    Raises:
        OSError: There is no room, or no right to write.

    Examples:
        >>> import pathlib, tempfile
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> write(folder, 7, Snapshot({"weights": [np.ones(2)]}, {"epoch": 1}), keep=3).name
        'checkpoint-0000000007.npz'
        >>> newest(folder).about
        {'epoch': 1}
    """
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(_UNFINISHED):
        left.unlink()
    path = folder / _NAME.format(number)
    unfinished = folder / f".{path.stem}.part"
    counts = {kind: len(arrays) for kind, arrays in snapshot.arrays.items()}
    head = json.dumps({"format": FORMAT, "counts": counts, "about": snapshot.about})
    arrays = {
        f"{kind}.{index}": array
        for kind, several in snapshot.arrays.items()
        for index, array in enumerate(several)
    }
    with unfinished.open("wb") as file:
        np.savez(file, allow_pickle=False, head=np.frombuffer(head.encode(), np.uint8), **arrays)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
    _sync(folder)
    for old in _files(folder)[keep:]:
        old.unlink()
    training_progress.note(folder, *_goes_on_at(snapshot.about))
    return path


def _goes_on_at(about: Mapping[str, Any]) -> tuple[int, int]:
    """Return the epoch and step that a training goes on from: an epoch's begin, if data cannot skip."""
    within = about.get("data_epoch") is not None or about.get("elastic") is not None
    return about.get("epoch", 0), about.get("step", 0) if within else 0


def newest(folder: Path) -> Snapshot | None:
    """Return the newest whole checkpoint in `folder`, None if there has never been one.

    For each damaged one that is newer, a line is written to stderr.

    Raises:
        EaiError: There are checkpoints, but none can be read.
    """
    files = _files(folder)
    for path in files:
        try:
            return read(path)
        except _DAMAGE as error:  # noqa: PERF203 -- a few files, once
            about = " ".join(str(error).split())
            say(f"{path} is damaged ({about}): taking the one before", error=True)
    if files:
        raise EaiError(
            f"none of the {len(files)} checkpoints in {folder} can be read",
            "move them away to train from the beginning",
            code="checkpoint-damaged",
        )
    return None


def read(path: Path) -> Snapshot:
    """Return what `path` holds, every array checked against its checksum.

    Raises:
        OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error: It is damaged.
    """
    # NumPy would leave a file open that it opened itself and then found damaged.
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        head = json.loads(archive["head"].tobytes())
        if head["format"] != FORMAT:
            message = f"its format is {head['format']}, this version reads {FORMAT}"
            raise ValueError(message)
        arrays = {
            kind: [archive[f"{kind}.{index}"] for index in range(count)]
            for kind, count in head["counts"].items()
        }
    return Snapshot(arrays, head["about"])


def check_shapes(folder: Path, build: Any) -> None:
    """Check that what a model is built with is shapes, and names no object for Keras to make.

    A checkpoint may be somebody else's, and Keras would import the modules that it names.

    Raises:
        EaiError: It is something else.
    """
    if isinstance(build, dict) and not {"class_name", "module", "registered_name"} & build.keys():
        build = list(build.values())
    if isinstance(build, list):
        for each in build:
            check_shapes(folder, each)
    elif not isinstance(build, str | int | float | None):
        what = f"the checkpoint in {folder} would build the model with {str(build)[:80]}"
        remedy = "build the model before, with model.build(shape) or model(batch)"
        raise EaiError(what, remedy, code="checkpoint-shapes")


def numbers(folder: Path) -> list[int]:
    """Return the numbers of the checkpoints in `folder`, the newest first."""
    return [int(path.stem.partition("-")[2]) for path in _files(folder)]


def _files(folder: Path) -> list[Path]:
    """Return our checkpoints, the newest first; a pipe or a file of the user's is none of ours."""
    ours = (path for path in folder.glob(_FILES) if _OURS.fullmatch(path.name) and path.is_file())
    return sorted(ours, reverse=True)


def _sync(folder: Path) -> None:
    """Bring the renaming to the disk, too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
