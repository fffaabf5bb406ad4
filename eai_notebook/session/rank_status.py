"""Last resource usage and last output lines of each rank."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from eai_notebook.telemetry.messages import ResourceUsage

LINES_KEPT: Final = 2000
"""Of each rank's output, for a look at its log; the notebook shows the output in full."""

LINES_SHOWN: Final = 200
"""Of these, the latest that are returned unless more are asked for."""

LONGEST: Final = 500
"""Characters of a line that are kept."""

UPDATE_S: Final = 1.0
"""News of the ranks reach the panel at most this often."""


class RankStatus:
    """Takes what the ranks say as it comes; ask it for `news`, or for a rank's `log`."""

    def __init__(self) -> None:
        self._vitals: dict[int, ResourceUsage] = {}
        self._lines: dict[int, deque[tuple[int, str]]] = {}
        self._count = 0
        self._cell_from = 0  # lines with a lower number are of earlier cells
        self._open: dict[int, str] = {}
        self._changed = False
        self._shown_at = 0.0

    def add_usage(self, vitals: ResourceUsage) -> None:
        """Note how a rank is doing."""
        self._vitals[vitals.rank] = vitals
        self._changed = True

    def take_text(self, rank: int, text: str) -> None:
        """Note what a rank printed; a line rewritten in place counts as its last state."""
        *lines, rest = (self._open.pop(rank, "") + text).split("\n")
        kept = self._lines.setdefault(rank, deque(maxlen=LINES_KEPT))
        kept.extend((self._count + position, _shown(line)) for position, line in enumerate(lines))
        self._count += len(lines)
        if rest:
            self._open[rank] = _shown(rest)
        self._changed = True

    def begin_cell(self) -> None:
        """Have only what is printed from now on count as a rank's last line."""
        for rank, rest in list(self._open.items()):
            if rest:
                self.take_text(rank, "\n")
        self._cell_from = self._count

    def forget(self) -> None:
        """Forget the ranks of a group that is gone."""
        self._vitals.clear()
        self._lines.clear()
        self._open.clear()

    def take_update(self) -> bool:
        """Return True at most once a second if something changed, and reset the flag."""
        if not self._changed or time.monotonic() - self._shown_at < UPDATE_S:
            return False
        self._changed, self._shown_at = False, time.monotonic()
        return True

    def of(self, rank: int) -> dict[str, Any]:
        """Return the last vitals and the last line of a rank, for the panel's group model."""
        vitals = self._vitals.get(rank)
        return {"vitals": asdict(vitals) if vitals else None, "line": self._last_line(rank)}

    def log(self, rank: int | None, most: int = LINES_SHOWN) -> str:
        """Return the latest lines that a rank printed, at most `most`; None is all ranks.

        Lines of all ranks are in the order in which they came, each with its rank in front.
        """
        if rank is not None:
            return "\n".join(line for _, line in self._numbered(rank)[-most:])
        ranks = sorted({*self._lines, *self._open})
        numbered = sorted(
            (number, of, line) for of in ranks for number, line in self._numbered(of)[-most:]
        )
        return "\n".join(f"[{of}] {line}" for _, of, line in numbered[-most:])

    def _numbered(self, rank: int) -> list[tuple[int, str]]:
        unfinished = self._open.get(rank)
        last = [(self._count, unfinished)] if unfinished else []
        return [*self._lines.get(rank, ()), *last]

    def _last_line(self, rank: int) -> str:
        lines = [line for number, line in self._numbered(rank) if number >= self._cell_from]
        return next((line for line in reversed(lines) if line.strip()), "")[:LONGEST]


def _shown(line: str) -> str:
    """Return what of a line is left to see after its carriage returns."""
    return line.rstrip("\r").rsplit("\r", 1)[-1][-LONGEST:]
