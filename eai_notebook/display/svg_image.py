"""A drawing of bars or lines as an image of its own, inside a piece of HTML.

An untrusted notebook is shown without the SVG that stands in its outputs: JupyterLab's sanitizer
takes it out, and styles with `calc`, `var` or `inset` with it. Images stay.
"""

from __future__ import annotations

from html import escape
from typing import Final
from urllib.parse import quote

LINE: Final = "rgba(128, 128, 128, .35)"
"""Colour of the lines of an axis, in light and dark themes."""

_KEPT: Final = " '/:=()?,;.-~_!*@+$"
"""What an address in an attribute may hold as it is; angle brackets, ``#`` and ``%`` it may not."""


def svg_image(shapes: str, box: tuple[int, int], said: str, style: str) -> str:
    """Return SVG shapes in a `box` of their own units as an image that stretches to its `style`.

    `said` is its text for those who do not see it.

    Examples:
        >>> image = svg_image('<rect width="5" height="1"/>', (10, 1), "rank 0", "height: 4px")
        >>> image.partition(" src=")[0]
        '<img alt="rank 0" title="rank 0" style="height: 4px"'
    """
    wide, tall = box
    drawn = (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {wide} {tall}' "
        f"preserveAspectRatio='none'>{shapes}</svg>"
    ).replace('"', "'")
    text = escape(said)
    return (
        f'<img alt="{text}" title="{text}" style="{style}" '
        f'src="data:image/svg+xml,{quote(drawn, safe=_KEPT)}"/>'
    )
