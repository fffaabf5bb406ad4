"""Fold the output of many ranks: equal lines once, progress bars, a cap with a log file."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from itertools import islice
from typing import IO, TYPE_CHECKING

from eai_notebook.session.rank_sets import format_ranks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

FOLD_WINDOW_S = 0.15
"""How long a line waits for other ranks to say the same. It also bounds the messages a
front end gets: lines are written together, a few times a second."""

FOLD_LOOK_AHEAD = 50
"""How many lines ahead of a rank an equal one is looked for."""

LINES_SHOWN = 2000
"""Lines of one cell that a notebook shows; the rest goes to a file that the output names."""

LONGEST_LINE = 1 << 20
"""Characters of a line after which it is broken: a program may write without end, and no line end."""

PIECES = 256
"""Pieces of an unfinished line that are kept apart; to join them at each would take ever longer."""

_BREAKS = re.compile(r"[\n\r\b]")
_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


@dataclass(eq=False)
class _Line:
    """A line some ranks have printed, waiting to be shown; `after` is the next to show."""

    stream: str
    text: str
    since: float
    ranks: set[int] = field(default_factory=set)
    shown: bool = False
    after: _Line | None = None


class RankOutput:
    r"""Takes the text of `ranks` piece by piece and writes it folded, by ``write(stream, text)``.

    ``feed`` may be called at any rate; ``flush`` writes what has waited long enough and
    is to be called often; ``close`` writes the rest. A line is prefixed with the ranks
    that printed it, except in a group of one. A text rewritten in place (``\\r``) is a
    progress bar: the lowest rank's is shown, rewritten in place.
    """

    def __init__(
        self,
        ranks: Sequence[int],
        write: Callable[[str, str], None],
        overflow: Path,
        *,
        prefixed: bool = True,
        lines_shown: int = LINES_SHOWN,
    ) -> None:
        self._ranks = frozenset(ranks)
        self._write = write
        self._overflow = overflow
        self._prefixed = prefixed
        self._lines_left = lines_shown
        self._unfinished: dict[tuple[int, str], str] = {}
        self._pieces: dict[tuple[int, str], list[str]] = {}  # of these lines, to be joined once
        self._head = _Line("", "", 0.0)  # stands before the first line that waits
        self._latest: dict[int, _Line] = {}
        self._bars: dict[int, str] = {}
        self._bar_shown = ""
        self._file: IO[str] | None = None

    def feed(self, rank: int, stream: str, text: str) -> None:
        """Take a piece of what `rank` wrote to `stream`."""
        pieces = self._pieces.setdefault((rank, stream), [])
        pieces.append(text)
        is_plain = rank not in self._bars and not _BREAKS.search(text)
        if is_plain and len(pieces) < PIECES and len(text) < LONGEST_LINE:
            return
        text = self._unfinished.pop((rank, stream), "") + "".join(pieces)
        pieces.clear()
        *lines, rest = text.replace("\r\n", "\n").split("\n")
        now = time.monotonic()
        for line in lines:
            self._bars.pop(rank, None)
            self._take_line(rank, stream, _after_return(line), now)
        if "\r" in rest or "\b" in rest:
            self._bars[rank] = _after_return(rest)
            self._unfinished[rank, stream] = "\r" + self._bars[rank]
        elif len(rest) > LONGEST_LINE:
            self._take_line(rank, stream, rest, now)
        elif rest:
            self._unfinished[rank, stream] = rest

    def flush(self, *, everything: bool = False) -> None:
        """Write the lines that all ranks have said, and those that have waited."""
        ready = self._take_ready(everything=everything)
        if ready:
            self._write_lines(ready)
        self._draw_bar()

    def close(self) -> str | None:
        """Write what is left; return the path of the overflow file if there is one."""
        now = time.monotonic()
        for (rank, stream), pieces in self._pieces.items():
            text = _after_return(self._unfinished.get((rank, stream), "") + "".join(pieces))
            if text:
                self._take_line(rank, stream, text, now)
        self._unfinished.clear()
        self._pieces.clear()
        self._bars.clear()
        self.flush(everything=True)
        if self._file is None:
            return None
        self._file.close()
        self._write("stderr", f"... the rest of the output is in {self._overflow}\n")
        return str(self._overflow)

    def _take_ready(self, *, everything: bool) -> list[_Line]:
        """Take the lines, from the first on, that need not wait any longer."""
        now = time.monotonic()
        waiting = list(_from(self._head.after))
        ready = len(waiting) if everything else 0
        for place, line in enumerate(waiting, 1):
            if now - line.since >= FOLD_WINDOW_S:
                ready = max(ready, place)  # whatever stands above it must go first
            elif line.ranks == self._ranks and ready == place - 1:
                ready = place
        for line in waiting[:ready]:
            line.shown = True
            self._head.after, line.after = line.after, None  # a silent rank may still hold it
        return waiting[:ready]

    def _take_line(self, rank: int, stream: str, text: str, now: float) -> None:
        """Join the line with an equal one, or place it; a rank's lines keep their order."""
        latest = self._latest.get(rank, self._head)
        before = self._head if latest.shown else latest
        for line in islice(_from(before.after), FOLD_LOOK_AHEAD):
            if line.text == text and line.stream == stream:
                line.ranks.add(rank)
                self._latest[rank] = line
                return
        before.after = self._latest[rank] = _Line(stream, text, now, {rank}, after=before.after)

    def _write_lines(self, lines: list[_Line]) -> None:
        self._clear_bar()
        stream, batch = lines[0].stream, ""
        for line in lines:
            if line.stream != stream:
                self._emit(stream, batch)
                stream, batch = line.stream, ""
            batch += f"{self._prefix(line.ranks)}{line.text}\n"
        self._emit(stream, batch)

    def _emit(self, stream: str, batch: str) -> None:
        lines = batch.splitlines(keepends=True)
        shown, hidden = lines[: self._lines_left], lines[self._lines_left :]
        self._lines_left -= len(shown)
        if shown:
            self._write(stream, "".join(shown))
        if hidden:
            if self._file is None:
                self._overflow.parent.mkdir(parents=True, exist_ok=True)
                self._file = self._overflow.open("w")
            self._file.writelines(hidden)

    def _prefix(self, ranks: set[int]) -> str:
        return f"[{format_ranks(ranks)}] " if self._prefixed else ""

    def _draw_bar(self) -> None:
        if not self._bars:
            return
        rank = min(self._bars)
        bar = self._prefix({rank}) + self._bars[rank]
        if bar != self._bar_shown:
            self._write("stdout", "\r" + bar + " " * (_width(self._bar_shown) - _width(bar)))
            self._bar_shown = bar

    def _clear_bar(self) -> None:
        if self._bar_shown:
            self._write("stdout", "\r" + " " * _width(self._bar_shown) + "\r")
            self._bar_shown = ""


def _from(line: _Line | None) -> Iterator[_Line]:
    while line is not None:
        yield line
        line = line.after


def _after_return(line: str) -> str:
    """Return what of `line` is left to see after its carriage returns and backspaces."""
    seen = line.rstrip("\r").rsplit("\r", 1)[-1]
    return seen.rsplit("\b", 1)[-1]


def _width(text: str) -> int:
    return len(_ANSI.sub("", text))
