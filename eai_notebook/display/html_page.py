"""A run as one HTML file: no kernel, no script, no network."""

from __future__ import annotations

import time
from html import escape
from typing import TYPE_CHECKING, Final

from eai_notebook.display.report_html import report_html
from eai_notebook.display.static_html import html
from eai_notebook.display.vitals_html import vitals_section
from eai_notebook.ledger.report import report_record
from eai_notebook.ledger.view_model import record_view

if TYPE_CHECKING:
    from eai_notebook.ledger.run_record import RunRecord

_STYLE: Final = """
:root { color-scheme: light dark; }
body { max-width: 900px; margin: 24px auto; padding: 0 16px; font-family: system-ui, sans-serif; }
h1 { font-size: 20px; }
h2 { margin: 20px 0 8px; font-size: 14px; }
section { font-size: 13px; }
body > p { color: gray; font-size: 13px; }
"""


def page(record: RunRecord) -> str:
    """Return a whole HTML page of a run: its chart, its numbers, what it was."""
    info, view = record.info, record_view(record)
    began = time.strftime("%Y-%m-%d %H:%M", time.localtime(info.started))
    hosts = ", ".join(sorted(set(info.hosts.values())))
    title = escape(f"{info.name}, {began}")
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>\n'
        f"<body><h1>{title}</h1>\n"
        f"<p>{info.size} ranks on {escape(hosts)} · {escape(info.state)} · run {escape(info.run)}</p>\n"
        f"{html(view)}\n"
        f"{vitals_section(view)}\n"
        f"<h2>Report</h2>\n{report_html(report_record(record))}\n</body></html>\n"
    )
