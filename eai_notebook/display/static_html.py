"""The chart of a run as static HTML: no JavaScript, no network.

A chart drawn by a script is blank in an export. So a run's chart ends as this: text as
HTML, so that it keeps its size at any width, and the bars as SVG, which stretch. Colours of
text and lines come from JupyterLab's theme where there is one.
"""

from __future__ import annotations

import re
from html import escape
from typing import Any, Final

from eai_notebook.display.axis import (
    FEWEST_SLOTS,
    bar_lengths,
    robust_top,
    step_span,
    step_ticks,
    ticks,
)
from eai_notebook.display.heat_map import heat_map
from eai_notebook.display.palette import UNMEASURED
from eai_notebook.display.summary_lines import cut_note, not_yet, price_line, rates_line
from eai_notebook.display.svg_image import LINE, svg_image
from eai_notebook.display.training_html import training_section
from eai_notebook.ledger.formatting import ms, percent
from eai_notebook.ledger.parts import BY_NAME

HEIGHT: Final = 1000
"""Of the drawing of the steps, in its own units: numbers without a fraction are short."""

WIDTH: Final = 1000

STEPS_WIDTH: Final = 4800
"""Of the drawing of the steps, in its own units: finer than any screen."""

MOST_THICK: Final = 16
"""Ranks that get a bar with a label each; more are drawn in `RANKS_HEIGHT` pixels together."""

RANKS_HEIGHT: Final = 320

_RANK_LABEL: Final = (
    "flex: none; max-width: 30%; padding-right: 6px; box-sizing: border-box; line-height: 1.1; "
    "white-space: nowrap"
)
_OVER: Final = "position: absolute; left: 0; top: 0; width: 100%; height: 100%; margin: 0"
"""Over all of the box that it stands in."""

_INK: Final = "var(--jp-ui-font-color1, currentColor)"
_FAINT: Final = "color: var(--jp-ui-font-color2, inherit); font-size: 12px; line-height: 1.5"
_CODE: Final = (
    "background: none; padding: 0; font-size: .95em; display: inline-block; max-width: 100%"
)


def html(view: dict[str, Any]) -> str:
    """Return a run's view as a piece of HTML that stands alone."""
    waits = not_yet(view)
    sections = (
        [_waiting(waits), training_section(view)]
        if waits
        else [
            _verdict(view),
            training_section(view),
            _legend(view),
            _steps(view),
            _ranks(view),
            heat_map(view),
            f'<div style="{_FAINT}; margin-top: 8px">{escape(rates_line(view))}</div>',
            f'<div style="{_FAINT}">{escape(price_line(view))}</div>',
        ]
    )
    frame = (
        "font-family: var(--jp-ui-font-family, system-ui, sans-serif); max-width: 860px; "
        f"margin: 4px 0; color: {_INK}; font-size: 13px; line-height: 1.4"
    )
    label = escape(f"Ledger of {view['run']['name']}: {waits or view['verdict']['sentence']}")
    inside = "\n".join(section for section in sections if section)
    return f'<figure class="eai-ledger" aria-label="{label}" style="{frame}">\n{inside}\n</figure>'


def _waiting(words: str) -> str:
    return f'<div style="font-weight: 600; font-size: 14px">{escape(words)}</div>'


def _verdict(view: dict[str, Any]) -> str:
    found = view["verdict"]
    colour = BY_NAME.get(found["kind"], BY_NAME["other"]).colour
    evidence = escape(" · ".join(found["evidence"]))
    advice = "; ".join(found["tries"]) + (f" ({found['gain']})" if found["gain"] else "")
    tried = f"<div>{_code(f'Try: {advice}')}</div>" if found["tries"] else ""
    return (
        f'<div style="border-left: 4px solid {colour}; padding: 1px 0 1px 10px">'
        f'<div style="font-weight: 600; font-size: 14px">{_code(found["sentence"])}</div>{tried}'
        f'<div style="{_FAINT}">{_code(evidence, escaped=True)}</div></div>'
    )


def _code(sentence: str, *, escaped: bool = False) -> str:
    """Show what stands between backticks as code."""
    safe = sentence if escaped else escape(sentence)
    return re.sub(r"`([^`]*)`", rf'<code style="{_CODE}">\1</code>', safe)


def _legend(view: dict[str, Any]) -> str:
    means = view["means_ms"]
    step = sum(length for length in means if length is not None)
    alone = view["run"]["size"] == 1
    entries = []
    for part, length in zip(view["parts"], means, strict=True):
        if length is None or not step:
            shown = "one rank" if alone and BY_NAME[part].needs_peers else "not measured"
        else:
            shown = f"{ms(length / 1e3)} · {percent(length / step)}"
            if part == "wait_peer" and view["waiting_ms"]:
                shown += f" ({ms(view['waiting_ms'] / 1e3)} on a rank that waits)"
        entries.append(
            f'<span title="{escape(BY_NAME[part].meaning)}" style="font-size: 12px">'
            f'<span style="display: inline-block; width: 10px; height: 10px; border-radius: 2px; '
            f'background: {BY_NAME[part].colour}; margin-right: 5px"></span>{part} '
            f'<span style="{_FAINT}">{shown}</span></span>'
        )
    if any(view["buckets"]["unmeasured_ms"]):
        entries.append(
            '<span style="white-space: nowrap; font-size: 12px">'
            '<span style="display: inline-block; box-sizing: border-box; width: 10px; height: 10px; '
            f'border: 1px dashed {UNMEASURED}; margin-right: 5px"></span>not measured</span>'
        )
    style = "display: flex; flex-wrap: wrap; gap: 2px 12px; margin: 8px 0 6px"
    return f'<div style="{style}">{"".join(entries)}</div>'


def _steps(view: dict[str, Any]) -> str:
    """Draw the stacked parts over the steps, with its axes as HTML around it."""
    buckets = view["buckets"]
    bars = buckets["ms"]
    if not bars:
        return ""
    lengths = bar_lengths(buckets)
    top = robust_top(lengths)
    first, span = step_span(buckets)
    edges = _edges(buckets, first, span)
    drawn = [_path(view["parts"], index, bars, top, edges) for index in range(len(view["parts"]))]
    drawn.append(_unmeasured_path(buckets, lengths, top, edges))
    cut = [edges[index] for index, length in enumerate(lengths) if length > top * 1.001]
    grid, labels = [], []
    for tick in ticks(top, 3):
        up = 100 * tick / top
        grid.append(
            f'<div style="position: absolute; left: 0; right: 0; bottom: {up:.1f}%; '
            f'border-top: 1px solid {LINE}"></div>'
        )
        labels.append(
            f'<span style="position: absolute; right: 6px; bottom: {up:.1f}%; margin-bottom: -8px">'
            f"{tick:g}{' ms' if tick == 0 else ''}</span>"
        )
    described = f"Mean time of each part over {view['run']['steps']} steps"
    return (
        f'<div style="display: flex; margin-top: 4px; padding-top: 8px; {_FAINT}; font-size: 11px">'
        f'<div style="position: relative; width: 48px; flex: none">{"".join(labels)}</div>'
        f'<div style="position: relative; flex: 1; height: 150px">{"".join(grid)}'
        f"{svg_image(''.join(drawn), (STEPS_WIDTH, HEIGHT), described, _OVER)}"
        f"{_cut_marks(cut)}</div></div>"
        f"{_step_axis(first, span, cut_note(buckets, len(cut)))}"
    )


def _edges(buckets: dict[str, Any], first: int, span: int) -> list[tuple[int, int]]:
    """Return where each bar begins and ends; wide bars get a gap, narrow ones would only flicker."""
    share = 0.8 if span <= FEWEST_SLOTS else 1.0
    return [
        (
            round(STEPS_WIDTH * (start - first) / span),
            round(STEPS_WIDTH * (start - first + share * (stop - start)) / span),
        )
        for start, stop in zip(buckets["step"], buckets["stop"], strict=True)
    ]


def _path(
    parts: list[str],
    part: int,
    bars: list[list[float | None]],
    top: float,
    edges: list[tuple[int, int]],
) -> str:
    """Return all bars of one part as one path: a tenth of the size of single rectangles."""
    path = ""
    for (left, right), bar in zip(edges, bars, strict=True):
        below = sum(length or 0.0 for length in bar[:part])
        low, high = (
            round(HEIGHT * min(edge, top) / top) for edge in (below, below + (bar[part] or 0.0))
        )
        if high > low:
            path += f"M{left} {HEIGHT - low}v{low - high}h{max(1, right - left)}v{high - low}z"
    if not path:
        return ""
    return (
        f'<path fill="{BY_NAME[parts[part]].colour}" d="{path}"><title>{parts[part]}</title></path>'
    )


def _unmeasured_path(
    buckets: dict[str, Any], lengths: list[float], top: float, edges: list[tuple[int, int]]
) -> str:
    """Outline the time that was not measured, so that it looks like none of the parts."""
    path = ""
    for (left, right), length, missing in zip(
        edges, lengths, buckets["unmeasured_ms"], strict=True
    ):
        low, high = (
            round(HEIGHT * min(edge, top) / top) for edge in (length - (missing or 0.0), length)
        )
        if missing and high > low:
            path += f"M{left} {HEIGHT - low}v{low - high}h{max(1, right - left)}v{high - low}z"
    if not path:
        return ""
    return (
        f'<path fill="{UNMEASURED}" fill-opacity=".12" stroke="{UNMEASURED}" '
        f'stroke-dasharray="3 2" vector-effect="non-scaling-stroke" d="{path}">'
        "<title>not measured</title></path>"
    )


def _cut_marks(cut: list[tuple[int, int]]) -> str:
    """Mark the bars that are longer than the axis."""
    return "".join(
        f'<span style="position: absolute; top: -11px; '
        f"left: {50 * (left + right) / STEPS_WIDTH:.2f}%; "
        f'transform: translateX(-50%); font-size: 8px; line-height: 10px">▲</span>'
        for left, right in cut
    )


def _step_axis(first: int, span: int, note: str) -> str:
    marks: list[str] = []
    for tick in step_ticks(first, span, 5):
        at = 100 * (tick - first) / span
        inward = "transform: translateX(-50%)" if at else ""
        marks.append(
            f'<span style="position: absolute; left: {at:.2f}%; {inward}">'
            f"{'' if marks else 'step '}{tick:,}</span>"
        )
    shown = f'<div style="text-align: right">{escape(note)}</div>' if note else ""
    return (
        f'<div style="margin-left: 48px; {_FAINT}; font-size: 11px">'
        f'<div style="position: relative; height: 16px">{"".join(marks)}</div>{shown}</div>'
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
    for index, rank in enumerate(ranks):
        named = rank["rank"] == view["verdict"]["rank"]
        name = f"rank {rank['rank']}" + (f" · {rank['host']}" if several_hosts else "")
        if few:
            label, shown = name, ms(sum(part or 0.0 for part in rank["ms"]) / 1e3)
        else:
            label = name if index % max(8, len(ranks) // 8) == 0 else ""
            shown = f"◀ rank {rank['rank']}" if named else ""
        rows.append(
            f'<div style="display: flex; align-items: center; height: {height}px; '
            f'margin-bottom: {gap}px{"; font-weight: 700" if named else ""}">'
            f'<span style="{_RANK_LABEL}; width: {112 if several_hosts else 48}px">'
            f"{escape(label)}</span>"
            f"{_rank_bar(rank, view['parts'], longest, height, name)}"
            f'<span style="width: 64px; flex: none; padding-left: 6px; box-sizing: border-box; '
            f'white-space: nowrap; line-height: 1">{shown}</span></div>'
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
    shown = [name]
    for part, length in zip(parts, rank["ms"], strict=True):
        if length:
            begin, end = round(WIDTH * left / longest), round(WIDTH * (left + length) / longest)
            pieces += f'<rect x="{begin}" width="{end - begin}" height="1" fill="{BY_NAME[part].colour}"/>'
            left += length
            shown.append(f"{part} {ms(length / 1e3)}")
    style = f"flex: 1; min-width: 0; height: {height}px"
    return svg_image(pieces, (WIDTH, 1), ", ".join(shown), style)
