"""The heat map of a run as HTML: ranks down, steps across.

The colours grow from dark to light as well as from blue to yellow (after the idea of
cividis, Nunez et al., PLOS ONE 2018), so they are in order for any eye and on paper.
`labextension/src/heatMap.ts` draws the same.
"""

from __future__ import annotations

import base64
import io
from bisect import bisect_right
from html import escape
from typing import Any, Final

from eai_notebook.display.axis import step_span
from eai_notebook.ledger.formatting import ms

SCALE: Final = ("#00204c", "#575c6d", "#a69d75", "#ffe945")
"""Evenly spaced colours from the shortest to the longest."""

MOST_PIXELS: Final = 480
"""Of the picture, across: columns are as wide as their steps, which are not always as many."""

ROW: Final = 6
"""Height of a rank's row, in pixels."""

LEAST: Final = 40
MOST: Final = 200
"""Height of all rows together, in pixels."""

_FAINT: Final = "color: var(--jp-ui-font-color2, inherit); font-size: 11px; line-height: 1.5"


def heat_map(view: dict[str, Any]) -> str:
    """Return the heat map with its scale; empty for one rank, or if nothing was measured."""
    heat, ranks = view["heat"], len(view["ranks"])
    if ranks < 2 or not heat["columns"] or heat["low_ms"] is None:  # noqa: PLR2004 - one has no peers
        return ""
    if view["buckets"]["stop"][-1] <= view["buckets"]["step"][0]:  # numbers that no step can have
        return ""
    wide, cells = _in_steps(view, base64.b64decode(heat["cells"]))
    picture = base64.b64encode(png(wide, ranks, cells))
    low, high = (ms(heat[edge] / 1e3) for edge in ("low_ms", "high_ms"))
    said = f"Own time of {ranks} ranks over the steps, from {low} (dark) to {high} (light)"
    tall = max(LEAST, min(MOST, ROW * ranks))
    # A column stands below the bars of the same steps.
    first, span = step_span(view["buckets"])
    share = (view["buckets"]["stop"][-1] - first) / span
    return (
        f'<div style="{_FAINT}; margin-top: 8px">own time of each rank · '
        f'<span style="display: inline-block; width: 60px; height: 8px; background: '
        f'linear-gradient(to right, {", ".join(SCALE)})"></span> {low} to {high}</div>'
        '<div style="margin-left: 48px">'
        f'<img alt="{escape(said)}" src="data:image/png;base64,{picture.decode()}" '
        f'style="display: block; width: {100 * share:.2f}%; height: {tall}px; '
        'image-rendering: pixelated"/></div>'
    )


def _in_steps(view: dict[str, Any], cells: bytes) -> tuple[int, bytes]:
    """Return the width and the cells of a picture whose columns all stand for as many steps."""
    heat, buckets = view["heat"], view["buckets"]
    columns = heat["columns"]
    fold = max(1, heat["width"] // buckets["width"])
    starts = buckets["step"][::fold][:columns]
    first, last = buckets["step"][0], buckets["stop"][-1]
    wide = min(last - first, MOST_PIXELS)
    at = [
        bisect_right(starts, first + (last - first) * (pixel + 0.5) / wide) - 1
        for pixel in range(wide)
    ]
    rows = (cells[row * columns : (row + 1) * columns] for row in range(len(view["ranks"])))
    return wide, b"".join(bytes(row[column] for column in at) for row in rows)


def png(wide: int, tall: int, cells: bytes) -> bytes:
    """Return a picture of one byte a cell: 0 is transparent, 1 to 255 go along `SCALE`.

    Examples:
        >>> png(1, 1, bytes([255]))[1:4]
        b'PNG'
    """
    from PIL import Image  # a process that draws no heat map need not load it

    picture = Image.frombytes("P", (wide, tall), cells)
    palette = [(0, 0, 0), *(colour((value - 1) / 254) for value in range(1, 256))]
    picture.putpalette([part for each in palette for part in each])
    target = io.BytesIO()
    picture.save(target, "PNG", transparency=0, optimize=True)
    return target.getvalue()


def colour(share: float) -> tuple[int, int, int]:
    """Return the colour at a position of the scale, 0 to 1, as red, green, blue.

    Examples:
        >>> colour(0.0), colour(1.0)
        ((0, 32, 76), (255, 233, 69))
    """
    position = share * (len(SCALE) - 1)
    below = min(int(position), len(SCALE) - 2)
    one, two = ([int(text[i : i + 2], 16) for i in (1, 3, 5)] for text in SCALE[below : below + 2])
    red, green, blue = (
        round(a + (b - a) * (position - below)) for a, b in zip(one, two, strict=True)
    )
    return red, green, blue
