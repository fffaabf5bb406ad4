"""CPU, memory, network and GPU of the ranks over the time of a run as HTML, for a saved page.

`labextension/src/vitalCharts.ts` draws the same in a run's tab.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from eai_notebook.display.palette import OVERLAY
from eai_notebook.display.training_html import small_curve
from eai_notebook.ledger.formatting import amount, duration

if TYPE_CHECKING:
    from collections.abc import Callable


def vitals_section(view: dict[str, Any]) -> str:
    """Return a small plot for each quantity that was measured, as HTML; empty without any."""
    vitals = view.get("vitals")
    if not vitals:
        return ""
    width, drawn, longest = vitals["width_s"], [], 0
    for name, (title, shown) in TITLES.items():
        lines = []
        for number, line in enumerate(vitals["lines"].get(name, ())):
            points = [
                ((at + 0.5) * width, value)
                for at, value in enumerate(line["values"])
                if value is not None
            ]
            longest = max(longest, len(line["values"]))
            dash = "" if number < len(OVERLAY) else "4 3"
            last = shown(points[-1][1]) if points else ""
            lines.append((line["label"], points, last, OVERLAY[number % len(OVERLAY)], dash))
        if lines:
            drawn.append(f"<div><div>{title}</div>{small_curve(title, lines, over='time')}</div>")
    return (
        f"<section><h2>The ranks over {duration(longest * width)}</h2>"
        f'<div style="display: flex; flex-wrap: wrap; gap: 12px 24px">{"".join(drawn)}</div></section>'
    )


def _percent(value: float) -> str:
    return f"{value:.0f} %"


def _megabytes(value: float) -> str:
    return amount(1e6 * value)


def _megabytes_per_s(value: float) -> str:
    return f"{_megabytes(value)}/s"


TITLES: Final[dict[str, tuple[str, Callable[[float], str]]]] = {
    "cpu_pct": ("CPU of a rank, of one core", _percent),
    "memory_mb": ("memory of a rank", _megabytes),
    "network_mb_per_s": ("network of a host, both ways", _megabytes_per_s),
    "gpu_pct": ("GPU of a rank, of the time busy", _percent),
    "gpu_memory_mb": ("GPU memory of a rank", _megabytes),
}
"""Each quantity of `VitalsCurve`, its title and how a value of it is written."""
