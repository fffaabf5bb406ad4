"""What ranks have said, whether or not their equal lines came in time to be folded."""

from __future__ import annotations

import re

from eai_notebook.session.rank_sets import parse_ranks


def by_rank(text: str) -> dict[int, list[str]]:
    """Return the lines of each rank in the order they were shown; other lines are left out."""
    said: dict[int, list[str]] = {}
    for found in re.finditer(r"^\[([\d,-]+)\] (.*)$", text, re.MULTILINE):
        for rank in parse_ranks(found[1], 10_000):
            said.setdefault(rank, []).append(found[2])
    return said
