"""Tracebacks of deep recursion, shortened before they are formatted.

IPython reads the source of every frame and colours it: 3,000 frames take it seconds on an idle
core and much longer on a busy one, while the other ranks wait. What a reader needs are both ends.
"""

from __future__ import annotations

from collections import Counter
from types import TracebackType
from typing import Final

FIRST: Final = 60
LAST: Final = 20
"""Frames that are kept at each end."""

REPEATS: Final = 3
"""How often a line of a recursion is kept, before the last frames: one that repeats adds nothing."""


def shorten(error: BaseException) -> int:
    """Cut the middle out of long tracebacks of `error` and of those it came from.

    Returns how many frames were left out.
    """
    left_out, seen = 0, set()
    todo: list[BaseException | None] = [error]
    while todo:
        one = todo.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        frames = _frames(one.__traceback__)
        if len(frames) > FIRST + LAST:
            kept = _without_repeats(frames[:FIRST]) + frames[-LAST:][-REPEATS:]
            if len(kept) == FIRST + REPEATS:  # no recursion
                kept = frames[:FIRST] + frames[-LAST:]
            left_out += len(frames) - len(kept)
            one.__traceback__ = _chained(kept)
        todo += [one.__cause__, one.__context__]
    return left_out


def _frames(traceback: TracebackType | None) -> list[TracebackType]:
    found = []
    while traceback is not None:
        found.append(traceback)
        traceback = traceback.tb_next
    return found


def _without_repeats(frames: list[TracebackType]) -> list[TracebackType]:
    """Return the frames without those of a line that came `REPEATS` times before."""
    counts: Counter[tuple[object, int]] = Counter()
    kept = []
    for each in frames:
        line = each.tb_frame.f_code, each.tb_lineno
        counts[line] += 1
        if counts[line] <= REPEATS:
            kept.append(each)
    return kept


def _chained(frames: list[TracebackType]) -> TracebackType | None:
    chained: TracebackType | None = None
    for each in reversed(frames):
        chained = TracebackType(chained, each.tb_frame, each.tb_lasti, each.tb_lineno)
    return chained
