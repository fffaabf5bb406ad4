"""The figure of a forecast: speed over the number of ranks, with its band, and the ideal line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eai_notebook.errors import EaiError

if TYPE_CHECKING:
    from pathlib import Path


def draw(receipt: dict[str, Any], file: Path) -> Path:
    """Draw a receipt's points into `file`, of a type that Matplotlib writes; return it.

    Raises:
        EaiError: Matplotlib is not installed, or there is no point to draw.
    """
    points = [each for each in receipt["points"] if not each["refused"]]
    if not points:
        raise EaiError(
            "all numbers of ranks are refused", "ask for fewer ranks", code="forecast-empty"
        )
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise EaiError(
            "Matplotlib is not installed",
            "`pip install matplotlib`, or take the CSV",
            code="matplotlib-missing",
        ) from None
    figure = Figure(figsize=(5, 3.4), layout="constrained")
    axes = figure.subplots()
    ranks = [each["ranks"] for each in points]
    speed = [1e3 / each["step_ms"] for each in points]
    low = [1e3 / each["high_ms"] for each in points]
    high = [1e3 / each["low_ms"] for each in points]
    strong = receipt["scenario"]["strong"]
    axes.fill_between(ranks, low, high, alpha=0.25, label="90 % band")
    axes.plot(ranks, speed, "o-", label="forecast")
    axes.plot([receipt["ranks"]], [1e3 / receipt["step_ms"]], "k*", ms=11, label="measured")
    if strong:
        ideal = [each / receipt["ranks"] * 1e3 / receipt["step_ms"] for each in ranks]
        axes.plot(ranks, ideal, ":", color="gray", label="ideal")
    else:
        axes.axhline(1e3 / receipt["step_ms"], ls=":", color="gray", label="ideal")
    axes.set(xlabel="ranks", ylabel="steps/s", xscale="log", ylim=(0, None))
    axes.set_xticks(ranks, [str(each) for each in ranks], minor=False)
    axes.minorticks_off()
    axes.set_title(f"{'strong' if strong else 'weak'} scaling, {receipt['hash'][:12]}", fontsize=9)
    axes.legend(fontsize=8)
    figure.savefig(file)
    return file
