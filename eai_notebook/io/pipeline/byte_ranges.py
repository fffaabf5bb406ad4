"""Share out byte ranges of text files: every row exactly once over all ranks.

Ranks share out byte ranges, not files: the shares stay even when files are few or uneven.
A row belongs to the range that holds its first byte, so ranges need not know each other.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from eai_notebook.compiled.swar import PADDING
from eai_notebook.io.memory.thread_buffer import ThreadMemory
from eai_notebook.io.sources.decompress import is_compressed, share_whole, unpack_all

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from eai_notebook.io.sources.file import File

CHUNK: Final = 1 << 20
"""Bytes read and parsed at a time: large enough for a cluster file system, small enough
that a shuffle over chunks mixes well."""

REQUESTS: Final = 16
"""Ranges of a remote file that are asked for at once while its rows are counted."""

_NEWLINE: Final = 10
_UTF8: Final = b"\xef\xbb\xbf"
"""What some programs put before UTF-8 text."""
_BLANKS: Final = 256
"""Bytes at a file's end in which blank lines are looked for."""
_SEARCH: Final = 1 << 16
_memory = ThreadMemory()


@dataclass(frozen=True)
class Span:
    """Bytes ``begin`` to ``end`` of a file: the rows whose first byte lies there."""

    file: File
    begin: int
    end: int


@dataclass(frozen=True)
class Chunk(Span):
    """A span cut at row ends, and its number of lines."""

    lines: int


def spans_of(files: Sequence[File], rank: int, size: int) -> list[Span]:
    """Return the spans of `rank`: equal parts of plain files, and compressed ones as wholes.

    Raises:
        EaiError: Compressed files are fewer than ranks, damaged, or there is no room for them.
    """
    packed = [file for file in files if is_compressed(file)]
    spans = share([file for file in files if not is_compressed(file)], rank, size)
    if packed:
        mine = unpack_all(share_whole(packed, rank, size))
        spans += [Span(file, 0, file.size) for file in mine]
    return spans


def share(files: Sequence[File], rank: int, size: int) -> list[Span]:
    """Return the spans of `rank`: an equal part of all bytes, in file order."""
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

    This reads the bytes once (counting costs a sixteenth of parsing), because all ranks
    must agree on the number of steps before the first one.
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
    # Waiting for storage is what takes the time where there is a network between.
    if span.file.is_local or len(pieces) == 1:
        found = [_rows_begun(piece) for piece in pieces]
    else:
        with ThreadPoolExecutor(REQUESTS, "eai-count") as pool:
            found = list(pool.map(_rows_begun, pieces))
    begun = [(first, lines) for first, lines, _ in found if lines]
    if not begun:
        return []
    last = min(_row_begin(span.file, span.end), found[-1][2])
    ends = [first for first, _ in begun[1:]] + [last]
    return [
        Chunk(span.file, first, end, lines) for (first, lines), end in zip(begun, ends, strict=True)
    ]


def read(file: File, begin: int, end: int) -> NDArray[np.uint8]:
    """Return the bytes from `begin` to `end`, a newline, and the parser's padding.

    They hold until this thread reads again: asking the system for fresh memory each time
    would cost as much as reading.

    Raises:
        EaiError: The file is gone, has changed, or its storage fails for good.
    """
    text = _memory.of(end - begin + 1 + PADDING)
    file.read_into(text[: end - begin], begin)
    text[end - begin :] = _NEWLINE
    return text


def _rows_begun(span: Span) -> tuple[int, int, int]:
    """Return where the first row begins whose first byte lies in a span, and how many do.

    And where the file's rows end, as far as the span shows it: lines without anything at the end
    of a file are no rows, nor is the mark before its first byte that it is UTF-8.
    """
    # A row begins after a newline; the file's first one, after an imagined one.
    before = max(span.begin - 1, 0)
    size = span.file.size
    near_end = span.end + _BLANKS > size
    first = min(before, max(size - _BLANKS, 0)) if near_end else before
    to = size if near_end else span.end - 1
    # (The mark before the first row may be longer than a span is.)
    to = max(to, min(len(_UTF8), size)) if span.begin == 0 else to
    text = read(span.file, first, to)
    end = _without_blanks(text[: size - first]) + first if near_end else size
    last = min(span.end, end)
    if last <= span.begin:
        return span.end, 0, end
    begins_with = text[: len(_UTF8)].tobytes()
    text = text[before - first : last - 1 - first]
    newlines = text == _NEWLINE
    lines = int(np.count_nonzero(newlines))
    if span.begin == 0:
        return (len(_UTF8) if begins_with == _UTF8 else 0), lines + 1, end
    return (before + int(np.argmax(newlines)) + 1 if lines else span.end), lines, end


def _without_blanks(text: NDArray[np.uint8]) -> int:
    """Return where the last row of a file's end ends, of which blank lines may follow."""
    end = len(text)
    rest = text[max(end - _BLANKS, 0) :].tobytes()
    content = rest.rstrip(b"\r\n")
    if not content and len(rest) < end:
        return end  # more blank lines than anybody means
    blanks = rest[len(content) :]
    # (The first newline is the last row's own, if there is one.)
    own = blanks.find(b"\n") + 1 if content else 0
    if content == _UTF8 and len(rest) == end:
        return 0
    return end - len(blanks) + (own or (len(blanks) if content else 0))


def _row_begin(file: File, pos: int) -> int:
    """Return the first row begin at or after `pos` (or the end of the file)."""
    # The row begins at `pos` itself if the byte before it is a newline.
    at = pos - 1
    while at < file.size - 1:
        end = min(at + _SEARCH, file.size)
        found = np.flatnonzero(read(file, at, end)[: end - at] == _NEWLINE)
        if len(found):
            return at + int(found[0]) + 1
        at = end
    return file.size
