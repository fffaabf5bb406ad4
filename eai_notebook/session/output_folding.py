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
"""Lines of one cell that a notebook shows; all are in a file that the output then names."""

RESERVED = 4
"""One in so many of these is set apart for ranks that come to speak after another's flood."""

LINE_SHOWN = 4000
"""Characters of one line that a notebook shows; the whole line is in that file."""

CHARACTERS_SHOWN = 1_000_000
"""Characters of one cell that a notebook shows; then it is as after the last of its lines."""

LINE_HELD = 64_000_000
"""Characters that are held in wait for the end of their line."""

LOG_CHARACTERS = 1_000_000_000
"""Characters of that file; a cell that prints for days would fill the disk."""

_ENDS = re.compile(r"[\n\r\b]")
_TIMES = re.compile(r" \[[^\[\]]*\]$")
"""The times and rates at the end of a progress bar, which differ from rank to rank."""

_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


@dataclass(eq=False)
class _Line:
    """A line some ranks have printed, waiting to be shown; `after` is the next to show."""

    stream: str
    text: str
    since: float
    key: str = ""  # equal in lines that are shown as one
    ranks: set[int] = field(default_factory=set)
    shown: bool = False
    after: _Line | None = None


class RankOutput:
    r"""Takes the text of `ranks` piece by piece and writes it folded, by ``write(stream, text)``.

    ``feed`` may be called at any rate; ``flush`` writes what has waited long enough and
    is to be called often; ``close`` writes the rest. A line is prefixed with the ranks
    that printed it, except in a group of one. A text rewritten in place (``\\r``) is a
    progress bar: the lowest rank's is shown, rewritten in place. Once a line is cut or left
    out, the file `overflow` gets the cell's lines, all and whole.
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
        self._log = OverflowLog(overflow)
        self._prefixed = prefixed
        self._lines_left = lines_shown
        self._characters_left = CHARACTERS_SHOWN
        share = lines_shown // (RESERVED * max(1, len(self._ranks)))
        self._reserve = dict.fromkeys(self._ranks, share)
        self._hidden = 0
        self._where = ""  # what was said of the whole output
        self._unfinished: dict[tuple[int, str], _Unfinished] = {}
        self._head = _Line("", "", 0.0)  # stands before the first line that waits
        self._latest: dict[int, _Line] = {}
        self._bars: dict[int, tuple[str, str]] = {}  # stream and text
        self._bar_shown = ""
        self._bar_stream = "stdout"

    def feed(self, rank: int, stream: str, text: str) -> None:
        """Take a piece of what `rank` wrote to `stream`."""
        text = _encodable(text)
        unfinished = self._unfinished.setdefault((rank, stream), _Unfinished())
        if not (unfinished.is_bar or _ENDS.search(text)) and unfinished.add(text) < LINE_HELD:
            return  # most of a long line, which is put together once, at its end
        *lines, rest = (unfinished.take() + text).replace("\r\n", "\n").split("\n")
        now = time.monotonic()
        for line in lines:
            self._bars.pop(rank, None)
            is_bar = "\r" in line.rstrip("\r")
            self._take_line(rank, stream, _after_return(line), now, is_bar=is_bar)
        if "\r" in rest or "\b" in rest:
            bar = _after_return(rest)[:LINE_SHOWN]
            self._bars[rank] = stream, bar
            unfinished.add("\r" + bar)
            unfinished.is_bar = True
        elif unfinished.add(rest) >= LINE_HELD:
            self._take_line(rank, stream, unfinished.take(), now)

    def flush(self, *, everything: bool = False) -> None:
        """Write the lines that all ranks have said, and those that have waited."""
        ready = self._take_ready(everything=everything)
        if ready:
            self._write_lines(ready)
        self._draw_bar()

    def close(self) -> str | None:
        """Write what is left; return the path of the overflow file if there is one."""
        now = time.monotonic()
        for (rank, stream), rest in self._unfinished.items():
            is_bar, text = rest.is_bar, _after_return(rest.take())
            if text:
                self._take_line(rank, stream, text, now, is_bar=is_bar)
        self._unfinished.clear()
        self._bars.clear()
        self.flush(everything=True)
        self._log.close()
        if self._log.is_begun and self._hidden:
            where = self._log.where()
            again = "" if where == self._where else where
            self._write("stdout", f"... {self._hidden} lines not shown{again}\n")
        return str(self._log.path) if self._log.is_begun else None

    def _take_ready(self, *, everything: bool) -> list[_Line]:
        """Take the lines, from the first on, that need not wait any longer."""
        now = time.monotonic()
        waiting = list(_from(self._head.after))
        ready = len(waiting) if everything else 0
        for number, line in enumerate(waiting, 1):
            if now - line.since >= FOLD_WINDOW_S:
                ready = max(ready, number)  # whatever stands above it must go first
            elif line.ranks == self._ranks and ready == number - 1:
                ready = number
        for line in waiting[:ready]:
            line.shown = True
            self._head.after, line.after = line.after, None  # a silent rank may still hold it
        return waiting[:ready]

    def _take_line(
        self, rank: int, stream: str, text: str, now: float, *, is_bar: bool = False
    ) -> None:
        """Join the line with an equal one, or place it; a rank's lines keep their order.

        Bars that have come equally far are equal, whatever time they took.
        """
        key = _TIMES.sub("", text) if is_bar else text
        latest = self._latest.get(rank, self._head)
        before = self._head if latest.shown else latest
        for line in islice(_from(before.after), FOLD_LOOK_AHEAD):
            if line.key == key and line.stream == stream:
                line.ranks.add(rank)
                self._latest[rank] = line
                return
        before.after = self._latest[rank] = _Line(
            stream, text, now, key, {rank}, after=before.after
        )

    def _write_lines(self, lines: list[_Line]) -> None:
        self._clear_bar()
        stream, batch = lines[0].stream, ""
        for line in lines:
            if line.stream != stream:
                self._emit(stream, batch)
                stream, batch = line.stream, ""
            batch += self._shown(line)
        self._emit(stream, batch)

    def _emit(self, stream: str, batch: str) -> None:
        if batch:
            self._write(stream, batch)

    def _shown(self, line: _Line) -> str:
        """Return what a notebook shows of a line: all, its beginning, or nothing."""
        prefix = self._prefix(line.ranks)
        self._log.add(f"{prefix}{line.text}\n")
        is_full = self._lines_left <= 0 or self._characters_left <= 0
        if is_full and not any(self._reserve[rank] > 0 for rank in line.ranks):
            self._hidden += 1
            return "" if self._log.is_begun else self._begin_log("not all lines are shown")
        self._lines_left -= 1
        self._characters_left -= min(len(line.text), LINE_SHOWN)
        for rank in line.ranks:
            self._reserve[rank] -= 1
        if len(line.text) <= LINE_SHOWN:
            return f"{prefix}{line.text}\n"
        shown = f"{prefix}{_beginning(line.text)} ... ({len(line.text):,} characters)\n"
        return shown + ("" if self._log.is_begun else self._begin_log("a long line is cut"))

    def _begin_log(self, why: str) -> str:
        self._log.begin()
        self._where = self._log.where()
        return f"... {why}{self._where}\n"

    def add(self, rank: int) -> None:
        """Take text of one more rank."""
        self._ranks |= {rank}
        self._reserve.setdefault(rank, 0)

    def _prefix(self, ranks: set[int]) -> str:
        return f"[{format_ranks(ranks)}] " if self._prefixed else ""

    def _draw_bar(self) -> None:
        if not self._bars:
            return
        rank = min(self._bars)
        stream, text = self._bars[rank]
        bar = self._prefix({rank}) + text
        if stream != self._bar_stream:
            self._clear_bar()
        if bar != self._bar_shown:
            self._write(stream, "\r" + bar + " " * (_width(self._bar_shown) - _width(bar)))
            self._bar_shown, self._bar_stream = bar, stream

    def _clear_bar(self) -> None:
        if self._bar_shown:
            # On the bar's own stream: a notebook shows another as an output of its own.
            self._write(self._bar_stream, "\r" + " " * _width(self._bar_shown) + "\r")
            self._bar_shown = ""


@dataclass
class _Unfinished:
    """The pieces of a line that has not ended."""

    pieces: list[str] = field(default_factory=list)
    length: int = 0
    is_bar: bool = False

    def add(self, text: str) -> int:
        """Add a piece; return how many characters there are."""
        if text:
            self.pieces.append(text)
            self.length += len(text)
        return self.length

    def take(self) -> str:
        """Return the pieces as one, and begin anew."""
        text = "".join(self.pieces)
        self.pieces, self.length, self.is_bar = [], 0, False
        return text


class OverflowLog:
    """The file of a cell that prints more than a notebook shows: all its lines, from the first.

    What it will begin with is kept until it is needed. A file that cannot be written, or has become
    very large, is reported, and ends nothing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._room = LOG_CHARACTERS
        self.is_begun = False
        self._kept: list[str] = []
        self._file: IO[str] | None = None
        self._problem = ""

    def add(self, text: str) -> None:
        """Add lines."""
        if not self.is_begun:
            self._kept.append(text)
        elif self._file is not None and self._room > 0:
            self._room -= len(text)
            end = "" if self._room > 0 else "\n[the log ends here: it has become too large]\n"
            try:
                self._file.write(text + end)
            except OSError as error:
                self._give_up(error)

    def begin(self) -> None:
        """Write the file from now on, and first what was added before."""
        self.is_begun = True
        kept, self._kept = "".join(self._kept), []
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("w", encoding="utf-8")
        except OSError as error:
            self._give_up(error)
        self.add(kept)

    def where(self) -> str:
        """Say where all lines are."""
        if self._problem:
            return f", and {self.path} cannot be written ({self._problem})"
        which = "whole output" if self._room > 0 else "output's beginning"
        return f"; the {which} is in {self.path}"

    def close(self) -> None:
        """Close the file, if there is one."""
        try:
            if self._file is not None:
                self._file.close()
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        self._file = None
        self._problem = error.strerror or str(error)


def _encodable(text: str) -> str:
    """Return `text` with single surrogates, which no file or page can take, written out."""
    if text.isascii():
        return text
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _beginning(text: str) -> str:
    """Return what is shown of a long line, up to the end of a word where there is one near."""
    words, _, _ = text[:LINE_SHOWN].rpartition(" ")
    return words if len(words) > LINE_SHOWN // 2 else text[:LINE_SHOWN]


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
