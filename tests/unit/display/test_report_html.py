from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

import pytest
from synthetic import run_rows

from eai_notebook.display.report_html import report_html
from eai_notebook.ledger.merge import merge
from eai_notebook.ledger.report import report


class Table(HTMLParser):
    """Reads the cells of a table, a row a list, and what kind each is."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.kinds: list[list[str]] = []
        self._cell = False
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: Any) -> None:
        if tag == "tr":
            self.rows.append([])
            self.kinds.append([])
        if tag in ("th", "td"):
            self._cell = True
            self.rows[-1].append("")
            self.kinds[-1].append(dict(attributes).get("scope", tag))

    def handle_endtag(self, tag: str) -> None:
        self._cell = self._cell and tag not in ("th", "td")

    def handle_data(self, data: str) -> None:
        if self._cell:
            self.rows[-1][-1] += data


@pytest.mark.parametrize(("ranks", "steps"), [(1, 1), (1, 120), (3, 120)])
def test_the_numbers_of_the_report_are_a_table_with_headings(ranks: int, steps: int) -> None:
    made = report(merge(run_rows(ranks, steps), {}))
    html = report_html(made)
    found = Table(html)
    assert found.rows == made.table()
    assert set(found.kinds[0]) == {"col"}
    assert all(kinds[0] == "row" and set(kinds[1:]) == {"td"} for kinds in found.kinds[1:])
    assert "<pre" not in html
    if steps == 1:  # its one cell is as wide as the numbers of the others
        assert ["compute", "not measured"] in found.rows
        assert 'colspan="4"' in html


def test_the_text_has_the_same_numbers_below_each_other() -> None:
    made = report(merge(run_rows(3, 120), {}))
    text = made.to_text().splitlines()
    for cells in made.table():
        (line,) = (line for line in text if line.split()[:2] == " ".join(cells).split()[:2])
        assert line.split() == " ".join(cells).split()
