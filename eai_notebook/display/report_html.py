"""The report of a run as HTML: its numbers are a table, for screen readers and to copy from."""

from __future__ import annotations

import re
from html import escape
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from eai_notebook.ledger.report import Report

_TEXT: Final = "margin: 0 0 4px"
_CELL: Final = "padding: 2px 16px 2px 0; border: none; text-align: {side}; font-weight: 400"
_SCROLLED: Final = (
    'class="eai-report-table" tabindex="0" role="group" aria-label="Parts of a step" '
    'style="overflow-x: auto"'
)
_TABLE: Final = (
    "border-collapse: collapse; margin: 8px 0; font-size: 13px; font-variant-numeric: tabular-nums"
)


def report_html(report: Report) -> str:
    """Return the verdict, the table and the rates as a piece of HTML that stands alone."""
    sentence, *rest = (*report.head(), *report.verdict.evidence)
    table = report.table()
    caption = f"Time of each part in a typical step of {report.title}"
    lines = [
        f'<p style="{_TEXT}; font-weight: 600">{_code(sentence)}</p>',
        *(f'<p style="{_TEXT}">{_code(line)}</p>' for line in rest),
        f'<div {_SCROLLED}><table style="{_TABLE}"><caption style="text-align: left">{escape(caption)}</caption>',
        f"<thead>{_row(table[0], is_head=True)}</thead>",
        f"<tbody>{''.join(_row(cells, wide=len(table[0])) for cells in table[1:])}</tbody>",
        "</table></div>",
        *(f'<p style="{_TEXT}">{_code(line)}</p>' for line in report.notes()),
    ]
    style = "font-size: 13px; line-height: 1.5; max-width: 860px"
    return f'<section class="eai-report" style="{style}">{"".join(lines)}</section>'


def _row(cells: list[str], *, is_head: bool = False, wide: int = 0) -> str:
    """Return a row; a part without numbers has one cell as wide as all of them."""
    made = []
    for position, text in enumerate(cells):
        side = "left" if position == 0 else "right"
        kind, scope = ("th", "col" if is_head else "row") if is_head or not position else ("td", "")
        span = wide - 1 if position and len(cells) == 2 else 1  # noqa: PLR2004 - a name and a word
        attributes = (f' scope="{scope}"' if scope else "") + (f' colspan="{span}"' * (span > 1))
        made.append(
            f'<{kind}{attributes} style="{_CELL.format(side=side)}">{escape(text)}</{kind}>'
        )
    return f"<tr>{''.join(made)}</tr>"


def _code(line: str) -> str:
    """Show what stands between backticks as code."""
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", escape(line))
