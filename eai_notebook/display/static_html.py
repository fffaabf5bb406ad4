"""The chart of a run as static HTML: no JavaScript, no network.

A widget is gone when its kernel is, and exporters leave a blank where it was. So a run's
chart ends as this: text as HTML, so that it keeps its size at any width, and the bars as
SVG, which stretch. Colours of text and lines come from JupyterLab's theme where there is
one.
"""

from __future__ import annotations

import re
from html import escape
from typing import Any, Final

from eai_notebook.display.axis import robust_top, ticks
from eai_notebook.display.heat_map import FEWEST_SLOTS, heat_map
from eai_notebook.display.palette import COLOURS, MEANINGS
from eai_notebook.display.summary_lines import price_line, rates_line
from eai_notebook.ledger.formatting import ms, percent

HEIGHT: Final = 1000
"""Of the drawing of the steps, in its own units: numbers without a fraction are short."""

WIDTH: Final = 1000

MOST_THICK: Final = 16
"""Ranks that get a bar with a label each; more are drawn in `RANKS_HEIGHT` pixels together."""

RANKS_HEIGHT: Final = 320

_RANK_LABEL: Final = (
    "flex: none; max-width: 30%; padding-right: 6px; box-sizing: border-box; line-height: 1.1; "
    "white-space: nowrap"
)
_INK: Final = "var(--jp-ui-font-color1, currentColor)"
_FAINT: Final = "color: var(--jp-ui-font-color2, inherit); font-size: 12px; line-height: 1.5"
_CODE: Final = "background: none; padding: 0; font-size: .95em"
_LINE: Final = "var(--jp-border-color2, rgba(128, 128, 128, .35))"


def html(view: dict[str, Any]) -> str:
    """Return a run's view as a piece of HTML that stands alone."""
    sections = [
        _verdict(view),
        _legend(view),
        _steps(view),
        _ranks(view),
        heat_map(view),
        f'<div style="{_FAINT}; margin-top: 8px">{escape(rates_line(view))}</div>',
        f'<div style="{_FAINT}">{escape(price_line(view))}</div>',
    ]
    frame = (
        "font-family: var(--jp-ui-font-family, system-ui, sans-serif); max-width: 860px; "
        f"margin: 4px 0; color: {_INK}; font-size: 13px; line-height: 1.4"
    )
    label = escape(f"Ledger of {view['run']['name']}: {view['verdict']['sentence']}")
    inside = "\n".join(section for section in sections if section)
    return f'<figure class="eai-ledger" aria-label="{label}" style="{frame}">\n{inside}\n</figure>'


def _verdict(view: dict[str, Any]) -> str:
    found = view["verdict"]
    colour = COLOURS.get(found["kind"], COLOURS["other"])
    evidence = escape(" · ".join(found["evidence"]))
    return (
        f'<div style="border-left: 4px solid {colour}; padding: 1px 0 1px 10px">'
        f'<div style="font-weight: 600; font-size: 14px">{_code(found["sentence"])}</div>'
        f'<div style="{_FAINT}">{_code(evidence, escaped=True)}</div></div>'
    )


def _code(sentence: str, *, escaped: bool = False) -> str:
    """Show what stands between backticks as code."""
    safe = sentence if escaped else escape(sentence)
    return re.sub(r"`([^`]*)`", rf'<code style="{_CODE}">\1</code>', safe)


def _legend(view: dict[str, Any]) -> str:
    means = [_mean([rank["ms"][place] for rank in view["ranks"]]) for place in range(6)]
    step = sum(length for length in means if length is not None)
    entries = []
    for part, length in zip(view["parts"], means, strict=True):
        if length is None or not step:
            told = "not measured"
        else:
            told = f"{ms(length / 1e3)} · {percent(length / step)}"
        entries.append(
            f'<span title="{escape(MEANINGS[part])}" style="white-space: nowrap; font-size: 12px">'
            f'<span style="display: inline-block; width: 10px; height: 10px; border-radius: 2px; '
            f'background: {COLOURS[part]}; margin-right: 5px"></span>{part} '
            f'<span style="{_FAINT}">{told}</span></span>'
        )
    style = "display: flex; flex-wrap: wrap; gap: 2px 12px; margin: 8px 0 6px"
    return f'<div style="{style}">{"".join(entries)}</div>'


def _steps(view: dict[str, Any]) -> str:
    """Draw the stacked parts over the steps, with its axes as HTML around it."""
    buckets = view["buckets"]
    bars = buckets["ms"]
    if not bars:
        return ""
    lengths = [sum(part or 0.0 for part in bar) for bar in bars]
    top = robust_top(lengths)
    slots = max(len(bars), FEWEST_SLOTS)
    drawn = [_path(view["parts"], place, bars, top) for place in range(len(view["parts"]))]
    cut = [place for place, length in enumerate(lengths) if length > top * 1.001]
    grid, labels = [], []
    for tick in ticks(top, 3):
        up = 100 * tick / top
        grid.append(
            f'<div style="position: absolute; left: 0; right: 0; bottom: {up:.1f}%; '
            f'border-top: 1px solid {_LINE}"></div>'
        )
        labels.append(
            f'<span style="position: absolute; right: 6px; bottom: calc({up:.1f}% - 8px)">'
            f"{tick:g}{' ms' if tick == 0 else ''}</span>"
        )
    described = f"Mean time of each part over {view['run']['steps']} steps"
    if cut:
        tallest = ms(max(lengths) / 1e3)
        note = f"{len(cut)} bar{'s' * (len(cut) != 1)} cut at the top, the longest is {tallest}"
    else:
        note = ""
    return (
        f'<div style="display: flex; margin-top: 4px; padding-top: 8px; {_FAINT}; font-size: 11px">'
        f'<div style="position: relative; width: 48px; flex: none">{"".join(labels)}</div>'
        f'<div style="position: relative; flex: 1; height: 150px">{"".join(grid)}'
        f'<svg role="img" viewBox="0 0 {slots * 10} {HEIGHT}" preserveAspectRatio="none" '
        f'style="position: absolute; inset: 0; width: 100%; height: 100%" '
        f'xmlns="http://www.w3.org/2000/svg"><title>{described}</title>{"".join(drawn)}</svg>'
        f"{_cut_marks(cut, slots)}</div></div>"
        f"{_step_axis(buckets['step'], buckets['width'], slots, note)}"
    )


def _path(parts: list[str], part: int, bars: list[list[float | None]], top: float) -> str:
    """Return all bars of one part as one path: a tenth of the size of single rectangles."""
    path = ""
    width = 8 if len(bars) <= FEWEST_SLOTS else 10
    for place, bar in enumerate(bars):
        below = sum(length or 0.0 for length in bar[:part])
        low, high = (
            round(HEIGHT * min(edge, top) / top) for edge in (below, below + (bar[part] or 0.0))
        )
        if high > low:
            path += f"M{10 * place} {HEIGHT - low}v{low - high}h{width}v{high - low}z"
    if not path:
        return ""
    return f'<path fill="{COLOURS[parts[part]]}" d="{path}"><title>{parts[part]}</title></path>'


def _cut_marks(cut: list[int], slots: int) -> str:
    """Mark the bars that are longer than the axis."""
    return "".join(
        f'<span style="position: absolute; top: -11px; left: {100 * (place + 0.4) / slots:.2f}%; '
        f'transform: translateX(-50%); font-size: 8px; line-height: 10px">▲</span>'
        for place in cut
    )


def _step_axis(steps: list[int], width: int, slots: int, note: str) -> str:
    last = steps[-1] + width
    marks = []
    for tick in ticks(slots * width if len(steps) < slots else last, 5):
        at = 100 * tick / (slots * width)
        if at <= 97:  # noqa: PLR2004 - further right it would stick out
            marks.append(
                f'<span style="position: absolute; left: {at:.2f}%; '
                f'{"transform: translateX(-50%)" if tick else ""}">'
                f"{'step ' if not tick else ''}{tick:g}</span>"
            )
    told = f'<div style="text-align: right">▲ {escape(note)}</div>' if note else ""
    return (
        f'<div style="margin-left: 48px; {_FAINT}; font-size: 11px">'
        f'<div style="position: relative; height: 16px">{"".join(marks)}</div>{told}</div>'
    )


def _ranks(view: dict[str, Any]) -> str:
    """Draw one bar a rank; many get thin bars, of which a few and the named one are labelled."""
    ranks = view["ranks"]
    longest = max((sum(part or 0.0 for part in rank["ms"]) for rank in ranks), default=0.0)
    if not longest:
        return ""
    few = len(ranks) <= MOST_THICK
    height, gap = (14, 4) if few else (max(3, RANKS_HEIGHT // len(ranks) - 1), 1)
    several_hosts = len({rank["host"] for rank in ranks}) > 1
    rows = []
    for place, rank in enumerate(ranks):
        named = rank["rank"] == view["verdict"]["rank"]
        name = f"rank {rank['rank']}" + (f" · {rank['host']}" if several_hosts else "")
        if few:
            label, told = name, f"{sum(part or 0.0 for part in rank['ms']):.3g} ms"
        else:
            label = name if place % max(8, len(ranks) // 8) == 0 else ""
            told = f"◀ rank {rank['rank']}" if named else ""
        rows.append(
            f'<div style="display: flex; align-items: center; height: {height}px; '
            f'margin-bottom: {gap}px{"; font-weight: 700" if named else ""}">'
            f'<span style="{_RANK_LABEL}; width: {112 if several_hosts else 48}px">'
            f"{escape(label)}</span>"
            f"{_rank_bar(rank, view['parts'], longest, height, name)}"
            f'<span style="width: 64px; flex: none; padding-left: 6px; box-sizing: border-box; '
            f'white-space: nowrap; line-height: 1">{told}</span></div>'
        )
    return f'<div style="{_FAINT}; font-size: 11px; margin-top: 8px">{"".join(rows)}</div>'


def _rank_bar(
    rank: dict[str, Any],
    parts: list[str],
    longest: float,
    height: int,
    name: str,
) -> str:
    pieces, left = "", 0.0
    told = [name]
    for part, length in zip(parts, rank["ms"], strict=True):
        if length:
            begin, end = round(WIDTH * left / longest), round(WIDTH * (left + length) / longest)
            pieces += f'<rect x="{begin}" width="{end - begin}" height="1" fill="{COLOURS[part]}"/>'
            left += length
            told.append(f"{part} {ms(length / 1e3)}")
    return (
        f'<svg role="img" viewBox="0 0 {WIDTH} 1" preserveAspectRatio="none" '
        f'style="flex: 1; min-width: 0; height: {height}px" xmlns="http://www.w3.org/2000/svg">'
        f"<title>{escape(', '.join(told))}</title>{pieces}</svg>"
    )


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
