"""Which bytes of which files a rank reads: every row exactly once over all ranks.

Ranks share out byte ranges, not files: the shares stay even when files are few or uneven.
A row belongs to the range that holds its first byte, so ranges need not know each other.
"""

from __future__ import annotations

import glob
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from eai_notebook.errors import EaiError
from eai_notebook.io.parse import PADDING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from io import BufferedReader

    from numpy.typing import NDArray

CHUNK: Final = 1 << 20
"""Bytes read and parsed at a time: large enough for a cluster file system, small enough
that a shuffle over chunks mixes well."""

_NEWLINE: Final = 10
_mine = threading.local()
_SEARCH: Final = 1 << 16
_SUFFIXES: Final = {".tsv", ".txt", ".csv"}
_COMPRESSED: Final = {".gz", ".zst", ".bz2", ".xz", ".zip"}


@dataclass(frozen=True)
class Span:
    """Bytes ``begin`` to ``end`` of a file: the rows whose first byte lies there."""

    path: Path
    begin: int
    end: int


@dataclass(frozen=True)
class Chunk(Span):
    """A span cut at row ends, its number of lines, and how the file looked then."""

    lines: int
    seen: tuple[int, int]


def find_files(pattern: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> list[Path]:
    """Return the files a glob, a folder or a list names, sorted, so that all ranks agree.

    Raises:
        EaiError: Nothing is there, or a file is compressed or may not be read.
    """
    if isinstance(pattern, (str, os.PathLike)):
        files = _of_one(os.fspath(pattern))
    else:
        files = [Path(one) for one in pattern]
        if not files:
            raise EaiError("the list of input files is empty", "name at least one file")
    for path in files:
        if not path.is_file():
            raise EaiError(f"there is no file {path}", f"look at {path.parent}{os.sep}")
        if path.suffix in _COMPRESSED:
            raise EaiError(f"{path} is compressed", "unpack it first, byte ranges need plain text")
        if not os.access(path, os.R_OK):
            raise EaiError(f"{path} may not be read", f"allow it with `chmod +r {path}`")
    return files


def _of_one(name: str) -> list[Path]:
    expanded = Path(name).expanduser()
    if expanded.is_dir():
        files = sorted(
            path
            for path in expanded.iterdir()
            if path.suffix in _SUFFIXES and path.is_file() and not path.name.startswith(".")
        )
        if not files:
            raise EaiError(
                f"folder {expanded} holds no {', '.join(sorted(_SUFFIXES))} file",
                "name the files with a glob",
            )
        return files
    if glob.has_magic(name):
        files = sorted(Path(found) for found in glob.glob(str(expanded), recursive=True))  # noqa: PTH207 - takes absolute patterns too
        if not files:
            raise EaiError(
                f"no file matches {name} (seen from {Path.cwd()})",
                "check the folder, or make data with `eai-notebook make-data criteo`",
            )
        return files
    if not expanded.exists():
        raise EaiError(
            f"there is no file or folder {name} (seen from {Path.cwd()})",
            "check the path, or make data with `eai-notebook make-data criteo`",
        )
    return [expanded]


def share(files: Sequence[Path], rank: int, size: int) -> list[Span]:
    """Return the spans of `rank`: an equal part of all bytes, in file order."""
    sizes = [path.stat().st_size for path in files]
    total = sum(sizes)
    begin, end = total * rank // size, total * (rank + 1) // size
    spans = []
    offset = 0
    for path, length in zip(files, sizes, strict=True):
        first, last = max(begin - offset, 0), min(end - offset, length)
        if first < last:
            spans.append(Span(path, first, last))
        offset += length
    return spans


def cut(span: Span, chunk: int = CHUNK) -> list[Chunk]:
    """Cut a span at row ends into chunks of about `chunk` bytes, counting their lines.

    This reads the bytes once (counting costs a sixteenth of parsing), because all ranks
    must agree on the number of steps before the first one.
    """
    chunks = []
    with span.path.open("rb") as file:
        seen = fingerprint(file)
        length = seen[0]
        begin = _row_begin(file, span.begin)
        end = _row_begin(file, span.end) if span.end < length else length
        while begin < end:
            stop = min(_row_begin(file, begin + chunk), end) if begin + chunk < end else end
            text = read(file, begin, stop)
            body = text[: stop - begin]
            lines = int(np.count_nonzero(body == _NEWLINE)) + int(body[-1] != _NEWLINE)
            chunks.append(Chunk(span.path, begin, stop, lines, seen))
            begin = stop
    return chunks


def fingerprint(file: BufferedReader) -> tuple[int, int]:
    """Return a file's size and time of change: other ones mean other rows."""
    status = os.fstat(file.fileno())
    return status.st_size, status.st_mtime_ns


def read(file: BufferedReader, begin: int, end: int) -> NDArray[np.uint8]:
    """Return the bytes from `begin` to `end`, a newline, and the parser's padding.

    They hold until this thread reads again: asking the system for fresh memory each time
    would cost as much as reading.
    """
    text = _memory_for(end - begin + 1 + PADDING)
    file.seek(begin)
    got = file.readinto(text[: end - begin].data)
    if got != end - begin:
        raise EaiError(
            f"{file.name} became shorter while it was read",
            "wait until it is completely written, then start again",
        )
    text[end - begin :] = _NEWLINE
    return text


def _memory_for(size: int) -> NDArray[np.uint8]:
    memory: NDArray[np.uint8] | None = getattr(_mine, "memory", None)
    if memory is None or len(memory) < size:
        memory = _mine.memory = np.empty(size, np.uint8)
    return memory[:size]


def _row_begin(file: BufferedReader, pos: int) -> int:
    """Return the first row begin at or after `pos` (or the end of the file)."""
    if pos == 0:
        return 0
    # The row begins at `pos` itself if the byte before it is a newline.
    at = pos - 1
    file.seek(at)
    while block := file.read(_SEARCH):
        found = block.find(b"\n")
        if found >= 0:
            return at + found + 1
        at += len(block)
    return at
