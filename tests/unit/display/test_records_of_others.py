"""A run record that somebody else has written: its texts are escaped, its numbers bounded."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from synthetic import run_record, run_rows

from eai_notebook.display.html_page import page
from eai_notebook.errors import EaiError
from eai_notebook.ledger.run_record import RunRecord

if TYPE_CHECKING:
    from pathlib import Path

SCRIPT = "<script>alert(1)</script>"
TOP: dict[str, Any] = dict.fromkeys(("size", "state", "run", "name", "started"), SCRIPT)
WITHIN: dict[str, Any] = {
    "hosts": {"0": {"a": 1}},
    "meta": {"link_bytes_per_s": SCRIPT, "wire": SCRIPT, "fused": SCRIPT, "outcome": SCRIPT},
    "input": {"0": {SCRIPT: 1.0}},
    "named": {"0": {SCRIPT: 1.0}},
    "clock_offset": {"0": SCRIPT},
    "measuring": {"0": SCRIPT},
    "pids": {"0": SCRIPT},
}


@pytest.mark.parametrize("field", [*TOP, *WITHIN])
def test_no_text_of_a_record_becomes_a_part_of_the_page(field: str, tmp_path: Path) -> None:
    path = run_record(tmp_path, run_rows(2, 20), SCRIPT).path
    known = json.loads((path / "run.json").read_text())
    known[field] = known.get(field, {}) | WITHIN[field] if field in WITHIN else TOP[field]
    (path / "run.json").write_text(json.dumps(known))
    try:
        made = page(RunRecord(path))
    except EaiError:  # a type that the field cannot have
        return
    assert SCRIPT not in made


@pytest.mark.parametrize(
    ("steps", "begins"),
    [
        ([0, 2**62, 5, 3], [0, 1e300, -1e300, np.nan]),
        ([0, 2**40], [0, 1]),
        ([-(2**63), 2**63 - 1], [0, 0]),
    ],
)
def test_odd_rows_take_neither_memory_nor_time(
    steps: list[int], begins: list[float], tmp_path: Path
) -> None:
    rows = run_rows(2, len(steps))
    for own in rows.values():
        own["step"], own["begin"] = steps, begins
        own["end"] = own["begin"] + 1
    assert len(page(run_record(tmp_path, rows))) < 1 << 20
