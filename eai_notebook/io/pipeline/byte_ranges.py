"""Split text files into byte ranges over ranks: every row exactly once.

Ranks get equal byte ranges, not files, so few or unequal files are no problem. A row belongs to the
range with its first byte.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from eai_notebook.compiled.swar import PADDING
from eai_notebook.errors import EaiError
from eai_notebook.io.memory.thread_buffer import ThreadMemory
from eai_notebook.io.sources.decompress import decompress_all, is_compressed, share_whole

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from eai_notebook.io.sources.file import File

CHUNK: Final = 1 << 20
"""Bytes that are read and parsed at once: enough for a cluster file system to be fast, few enough
to shuffle well over chunks."""

REQUESTS: Final = 16
"""Parallel requests for ranges of a remote file while its rows are counted."""

_NEWLINE: Final = 10
_UTF8: Final = b"\xef\xbb\xbf"
"""The byte order mark that some programs write before UTF-8 text."""

_MAX_BLANKS: Final = 256
"""Bytes at a file's end that are searched for blank lines."""

_SEARCH: Final = 1 << 16
_NO_TEXT: Final = (
    (b"\x1f\x8b\x08", "gzip", ".gz"),
    (b"\x28\xb5\x2f\xfd", "zstd", ".zst"),
    (b"BZh", "bzip2", ".bz2"),
    (b"\xfd7zXZ\0", "a file of xz", ""),
    (b"PK\x03\x04", "a zip archive", ""),
    (b"PAR1", "a Parquet file", ""),
    (b"ARROW1\0\0", "an Arrow file", ""),
    (b"\x93NUMPY", "a .npy file", ""),
)
"""What files of other kinds begin with, and the suffix that a compressed one should have."""
_memory = ThreadMemory()


@dataclass(frozen=True)
class Span:
    """The rows of a file whose first byte is from ``begin`` to ``end``."""

    file: File
    begin: int
    end: int


@dataclass(frozen=True)
class Chunk(Span):
    """A span cut at row ends, and its number of lines."""

    lines: int


def spans_of(files: Sequence[File], rank: int, size: int) -> list[Span]:
    """Return the spans of `rank`: equal byte ranges of plain files, and whole compressed files.

    Raises:
        EaiError: Compressed files are fewer than ranks, damaged, or too large for the disk.
    """
    compressed = [file for file in files if is_compressed(file)]
    spans = share([file for file in files if not is_compressed(file)], rank, size)
    if compressed:
        mine = decompress_all(share_whole(compressed, rank, size))
        spans += [Span(file, 0, file.size) for file in mine]
    return spans


def share(files: Sequence[File], rank: int, size: int) -> list[Span]:
    """Return the spans of `rank`: an equal share of all bytes, in file order."""
    total = sum(file.size for file in files)
    begin, end = total * rank // size, total * (rank + 1) // size
    spans = []
    offset = 0
    for file in files:
        first, last = max(begin - offset, 0), min(end - offset, file.size)
        if first < last:
            spans.append(Span(file, first, last))
        offset += file.size
    return spans


def cut_all(spans: Iterable[Span], chunk: int = CHUNK) -> list[Chunk]:
    """Cut spans at row ends into chunks of about `chunk` bytes, counting their lines.

    This reads all bytes once, because all ranks must agree on the number of steps before the first
    one; counting takes a sixteenth of the time of parsing.
    """
    return [piece for span in spans for piece in cut(span, chunk)]


def cut(span: Span, chunk: int = CHUNK) -> list[Chunk]:
    """Cut a span at row ends into chunks of about `chunk` bytes, counting their lines."""
    if span.begin >= span.end:
        return []
    pieces = [
        Span(span.file, begin, min(begin + chunk, span.end))
        for begin in range(span.begin, span.end, chunk)
    ]
    # Remote files: most of the time is spent waiting for storage.
    if span.file.is_local or len(pieces) == 1:
        counts = [_count_rows(piece) for piece in pieces]
    else:
        with ThreadPoolExecutor(REQUESTS, "eai-count") as pool:
            counts = list(pool.map(_count_rows, pieces))
    begins = [(first, lines) for first, lines, _ in counts if lines]
    if not begins:
        return []
    last = min(_next_row(span.file, span.end), counts[-1][2])
    ends = [first for first, _ in begins[1:]] + [last]
    return [
        Chunk(span.file, first, end, lines)
        for (first, lines), end in zip(begins, ends, strict=True)
    ]


def read(file: File, begin: int, end: int) -> NDArray[np.uint8]:
    """Return the bytes from `begin` to `end`, a newline, and the parser's padding.

    They are in this thread's buffer, which its next call overwrites: new memory for each read would
    cost as much time as reading.

    Raises:
        EaiError: The file was removed or has changed, or its storage fails permanently.
    """
    text = _memory.of(end - begin + 1 + PADDING)
    file.read_into(text[: end - begin], begin)
    text[end - begin :] = _NEWLINE
    return text


def _count_rows(span: Span) -> tuple[int, int, int]:
    """Return the offset of a span's first row, its number of rows, and the end of the file's rows.

    The last is known if the span is near the file's end. Blank lines at the end of a file are not
    rows, nor is a byte order mark at its beginning.
    """
    # A row begins after a newline; treat the file's first row as if there was one before it.
    before = max(span.begin - 1, 0)
    size = span.file.size
    near_end = span.end + _MAX_BLANKS > size
    first = min(before, max(size - _MAX_BLANKS, 0)) if near_end else before
    stop = size if near_end else span.end - 1
    # (A byte order mark may be longer than the span.)
    stop = max(stop, min(len(_UTF8), size)) if span.begin == 0 else stop
    text = read(span.file, first, stop)
    end = _end_of_rows(text[: size - first]) + first if near_end else size
    last = min(span.end, end)
    if last <= span.begin:
        return span.end, 0, end
    if span.begin == 0:
        _check_text(span.file, text[: min(stop, _SEARCH)].tobytes())
    begins_with = text[: len(_UTF8)].tobytes()
    text = text[before - first : last - 1 - first]
    newlines = text == _NEWLINE
    lines = int(np.count_nonzero(newlines))
    if span.begin == 0:
        return (len(_UTF8) if begins_with == _UTF8 else 0), lines + 1, end
    return (before + int(np.argmax(newlines)) + 1 if lines else span.end), lines, end


def _check_text(file: File, begins_with: bytes) -> None:
    """Refuse a file whose first bytes are no lines: its rows would be counted, and each be bad.

    Raises:
        EaiError: It is compressed or binary, or its lines end in another way.
    """
    for magic, kind, suffix in _NO_TEXT:
        if begins_with.startswith(magic) and suffix:
            raise EaiError(
                f"{file} is compressed by {kind}, but its name has no such suffix",
                f"name it *{suffix}, or decompress it",
                code="compression-not-in-name",
            )
        if begins_with.startswith(magic):
            raise EaiError(
                f"{file} is no text, but {kind}", "name files of text", code="text-is-binary"
            )
    if b"\r" in begins_with.rstrip(b"\r\n") and b"\n" not in begins_with:
        raise EaiError(
            f"{file} row 1 holds carriage returns: lines must end with a newline",
            "convert the file with `tr '\\r' '\\n'`",
            code="text-newlines",
        )


def _end_of_rows(text: NDArray[np.uint8]) -> int:
    """Return the end of the last row in the last bytes of a file, before any blank lines."""
    end = len(text)
    rest = text[max(end - _MAX_BLANKS, 0) :].tobytes()
    content = rest.rstrip(b"\r\n")
    if not content and len(rest) < end:
        return end  # too many blank lines to be an accident
    blanks = rest[len(content) :]
    # (The first newline belongs to the last row.)
    own = blanks.find(b"\n") + 1 if content else 0
    if content == _UTF8 and len(rest) == end:
        return 0
    return end - len(blanks) + (own or (len(blanks) if content else 0))


def _next_row(file: File, pos: int) -> int:
    """Return the offset of the first row that begins at or after `pos`; else the file's end."""
    # The row begins at `pos` itself if the byte before it is a newline.
    begin = pos - 1
    while begin < file.size - 1:
        end = min(begin + _SEARCH, file.size)
        newlines = np.flatnonzero(read(file, begin, end)[: end - begin] == _NEWLINE)
        if len(newlines):
            return begin + int(newlines[0]) + 1
        begin = end
    return file.size
