"""Loss and metrics of a run as HTML: progress, and a small curve for each metric.

`labextension/src/training.ts` draws the same.
"""

from __future__ import annotations

import time
from html import escape
from typing import Any, Final

from eai_notebook.display.svg_image import LINE, svg_image
from eai_notebook.ledger.formatting import count, duration

MOST_CURVES: Final = 6
"""Metrics that get a curve; the names of more are a list of numbers."""

WIDE: Final = 120
TALL: Final = 36
"""Of a curve, in its own units."""

LOSS: Final = "#0072B2"
HELD_OUT: Final = "#D55E00"
"""Colours of a metric on the training data and on the validation data."""

RATE: Final = "samples/s"
RATE_COLOUR: Final = "#009E73"
"""The throughput of all ranks, which is drawn as the metrics are."""

FEWEST_POINTS: Final = 5
"""A throughput of fewer stretches of steps is only the number below the chart."""

_FAINT: Final = "color: var(--jp-ui-font-color2, inherit); font-size: 12px; line-height: 1.5"


def progress_line(view: dict[str, Any], now: float | None = None) -> str:
    """Return how far a run has come: epoch, step, time taken and, while it goes on, time left.

    Examples:
        >>> progress_line({"training": {"epoch": 2, "epochs": 3, "steps": 30},
        ...     "run": {"steps": 15, "state": "running", "started": 0.0, "ended": None},
        ...     "buckets": {"longest": {"step": 0, "ms": 4000.0}}}, now=18.0)
        'epoch 2 of 3 · step 15 of 30 · 18 s elapsed · about 15 s left'
    """
    run, training = view["run"], view["training"]
    fragments = []
    if training is not None:
        fragments.append(f"epoch {training['epoch']}" + _of(training["epochs"]))
        fragments.append(f"step {count(run['steps'])}" + _of(training["steps"]))
    if run["ended"] is not None:
        took = duration(max(0.0, run["ended"] - run["started"]))
        fragments.append(f"{'took' if run['state'] == 'done' else run['state'] + ' after'} {took}")
    elif run["state"] == "running" and run["steps"] > 0:
        elapsed = max(0.0, (now or time.time()) - run["started"])
        fragments.append(f"{duration(elapsed)} elapsed")
        left = seconds_left(view, elapsed)
        if left is not None:
            fragments.append(f"about {duration(left)} left")
    return " · ".join(fragments)


def seconds_left(view: dict[str, Any], elapsed: float) -> float | None:
    """Return how long a run will go on at its pace so far; None where that is not known.

    The longest step, which compiles, comes once and is left out of the pace.
    """
    run, training, longest = view["run"], view["training"], view["buckets"]["longest"]
    if training is None or not training["steps"] or run["steps"] < 2 or longest is None:  # noqa: PLR2004
        return None
    pace = max(0.0, elapsed - (longest["ms"] or 0.0) / 1e3) / (run["steps"] - 1)
    return float(max(0, training["steps"] - run["steps"]) * pace) if pace > 0 else None


def training_section(view: dict[str, Any]) -> str:
    """Return the progress and the curves as HTML; empty without any."""
    line = escape(progress_line(view))
    training = view["training"]
    curves, more = "", ""
    if training is not None:
        names = [name for name in training["values"] if not name.startswith("val_")]
        curves = "".join(_metric(training, name) for name in names[:MOST_CURVES])
        rest = [name for name in names[MOST_CURVES:] if training["values"][name] is not None]
        more = " · ".join(f"{name} {training['values'][name]:.4g}" for name in rest)
    points = throughput(view["buckets"])
    if len(points) >= FEWEST_POINTS:
        curves += small_curve(RATE, [(RATE, points, count(points[-1][1]), RATE_COLOUR, "")])
    if not line and not curves:
        return ""
    return (
        f'<div style="margin-top: 8px"><div style="{_FAINT}">{line}</div>'
        f'<div style="display: flex; flex-wrap: wrap; align-items: flex-end; gap: 4px 16px">{curves}</div>'
        f'<div style="{_FAINT}">{escape(more)}</div></div>'
    )


def throughput(buckets: dict[str, Any]) -> list[tuple[float, float]]:
    """Return the samples/s of all ranks over the steps, at the middle of each stretch.

    Examples:
        >>> throughput({"step": [0, 4], "stop": [4, 8], "samples_per_s": [None, 800.0]})
        [(6.0, 800.0)]
    """
    rates = buckets.get("samples_per_s", ())
    edges = zip(buckets["step"], buckets["stop"], strict=True)
    return [
        ((start + stop) / 2, rate)
        for (start, stop), rate in zip(edges, rates, strict=False)
        if rate is not None
    ]


def _metric(training: dict[str, Any], name: str) -> str:
    """Draw one metric over the steps: the ranks' mean, and validation at each epoch's end."""
    held_out = f"val_{name}"
    values = {label: training["values"].get(label) for label in (name, held_out)}
    shown = {label: "" if value is None else f"{value:.4g}" for label, value in values.items()}
    return small_curve(
        name,
        [
            (name, _points(training, name), shown[name], LOSS, ""),
            (held_out, _ends(training, held_out), shown[held_out], HELD_OUT, "3 2"),
        ],
    )


def small_curve(
    name: str,
    drawn: list[tuple[str, list[tuple[float, float]], str, str, str]],
    over: str = "the steps",
) -> str:
    """Draw lines in one small plot: each has a name, points, its last value, a colour and dashes."""
    known = [point for _, points, *_ in drawn for point in points]
    labels = "".join(
        f'<span style="color: var(--jp-ui-font-color1, inherit)"><span style="color: {colour}">●</span>&nbsp;'
        f"{escape(label)} {value} </span>"
        for label, _, value, colour, _ in drawn
        if value
    )
    lines = "".join(_line(points, known, colour, dash) for _, points, _, colour, dash in drawn)
    style = f"display: block; width: 170px; height: 48px; border-bottom: 1px solid {LINE}"
    picture = svg_image(lines, (WIDE, TALL), f"{name} over {over}", style)
    return f'<div style="{_FAINT}">{labels}{picture}</div>'


def _points(training: dict[str, Any], name: str) -> list[tuple[float, float]]:
    """Return a metric over the steps, or over epochs if it is known at their ends only."""
    curve = training["curves"].get(name, {"step": [], "value": []})
    pairs = zip(curve["step"], curve["value"], strict=True)
    return [(s, v) for s, v in pairs if v is not None] or _ends(training, name)


def _ends(training: dict[str, Any], name: str) -> list[tuple[float, float]]:
    return [
        (end["step"], end["values"][name])
        for end in training["ends"]
        if end["values"].get(name) is not None
    ]


def _line(
    points: list[tuple[float, float]], known: list[tuple[float, float]], colour: str, dash: str
) -> str:
    if not points:
        return ""
    last = max(step for step, _ in known) or 1
    low, high = min(value for _, value in known), max(value for _, value in known)
    spread = (high - low) or 1.0
    path = [
        (WIDE * step / last, 2 + (TALL - 4) * (1 - (value - low) / spread))
        for step, value in points
    ]
    if len(path) == 1:  # a line of one point is not seen
        path = [(max(0.0, path[0][0] - 4), path[0][1]), path[0]]
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    return (
        f'<polyline fill="none" stroke="{colour}" stroke-width="1.5"{dashes} '
        f'vector-effect="non-scaling-stroke" '
        f'points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in path)}"/>'
    )


def _of(number: int | None) -> str:
    return f" of {count(number)}" if number else ""
