"""A run as plain text, for terminals."""

from __future__ import annotations

from typing import Any, Final

from eai_notebook.display.summary_lines import not_yet, price_line, rates_line
from eai_notebook.display.training_html import progress_line
from eai_notebook.ledger.formatting import ms
from eai_notebook.ledger.parts import BY_NAME

WIDTH: Final = 48
"""Characters of the longest rank's bar."""


def text(view: dict[str, Any]) -> str:
    """Return a run's view as plain text: verdict, one bar a rank, rates."""
    if waits := not_yet(view):
        return waits
    found = view["verdict"]
    advice = "; ".join(found["tries"]) + (f" ({found['gain']})" if found["gain"] else "")
    lines = [found["sentence"], *([f"Try: {advice}"] if found["tries"] else []), ""]
    longest = max((_length(rank["ms"]) for rank in view["ranks"]), default=0.0)
    if longest > 0:
        lines += [_bar(rank, view["parts"], longest) for rank in view["ranks"]]
        lines += ["", "  ".join(f"{BY_NAME[part].letter} {part}" for part in view["parts"]), ""]
    training = view["training"]
    details = [progress_line(view)]
    if training is not None:
        known = [(name, value) for name, value in training["values"].items() if value is not None]
        details.append(" · ".join(f"{name} {value:.4g}" for name, value in known))
    lines += [line for line in (*details, rates_line(view), price_line(view)) if line]
    return "\n".join(lines)


def _bar(rank: dict[str, Any], parts: list[str], longest: float) -> str:
    """Draw one rank; rounding the running sum keeps the bar as long as the whole."""
    bar, until = "", 0.0
    for part, length in zip(parts, rank["ms"], strict=True):
        until += length or 0.0
        bar += BY_NAME[part].letter * (round(WIDTH * until / longest) - len(bar))
    return f"rank {rank['rank']:<4}{bar:<{WIDTH}}  {ms(_length(rank['ms']) / 1e3)}"


def _length(parts: list[float | None]) -> float:
    return sum(part or 0.0 for part in parts)
