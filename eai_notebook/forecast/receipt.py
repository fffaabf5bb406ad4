"""A receipt of a forecast: its inputs and its numbers, with a hash, kept in the run's folder.

It is written before anybody knows the truth. When a run with so many ranks is made later, `checked`
says what became of it.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from eai_notebook.errors import EaiError
from eai_notebook.forecast.step_forecast import (
    Fit,
    Point,
    Scenario,
    forecast,
    knee,
    worth_running,
)
from eai_notebook.ledger.followed_run import read_run
from eai_notebook.ledger.formatting import amount, count, ms, percent
from eai_notebook.ledger.run_record import RunRecord, list_runs

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from eai_notebook.ledger.facts import Facts

_SAME: Final = ("model", "parameters", "optimizer")
"""What a later run must have in common with a forecast's."""

_NAME: Final = "forecast-{}.json"


def facts_of(record: RunRecord) -> Facts:
    """Return the numbers of a run on disk."""
    return read_run(record).facts()


def make(
    record: RunRecord, ranks: Sequence[int], scenario: Scenario, link: float | None = None
) -> dict[str, Any]:
    """Return a receipt: the forecast of a run for numbers of ranks.

    ``link``, bytes/s, is what the run's own link carries where the record does not know it.
    """
    facts = facts_of(record)
    fit = Fit.of(facts, link)
    seen = fit.exchange
    receipt: dict[str, Any] = {
        "run": record.info.run,
        "made": time.time(),
        "same": {name: record.info.meta.get(name) for name in _SAME},
        "ranks": fit.ranks,
        "step_ms": 1e3 * facts.step,
        "batch": _plain(fit.batch),
        "wire": scenario.wire or fit.wire,
        "scenario": asdict(scenario),
        "parts_ms": {name: 1e3 * length for name, length in fit.parts.items()},
        "exchange": None if seen is None else asdict(seen),
        "points": [_fields(point) for point in forecast(fit, list(ranks), scenario)],
    }
    return {**receipt, "hash": digest(receipt)}


def digest(receipt: dict[str, Any]) -> str:
    """Return the hash of a receipt without its own, as hexadecimal digits.

    Examples:
        >>> digest({"run": "a", "hash": "x"}) == digest({"run": "a"})
        True
    """
    text = json.dumps({k: v for k, v in receipt.items() if k != "hash"}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def keep(record: RunRecord, receipt: dict[str, Any]) -> Path:
    """Write a receipt into the folder of its run, and return the file."""
    file = record.path / _NAME.format(receipt["hash"][:12])
    file.write_text(json.dumps(receipt, indent=1))
    return file


def read(file: Path) -> dict[str, Any]:
    """Return a receipt that was kept.

    Raises:
        EaiError: It was changed since, or is damaged.
    """
    try:
        receipt: dict[str, Any] = json.loads(file.read_text())
        intact = receipt["hash"] == digest(receipt)
    except (OSError, ValueError, KeyError, TypeError):
        intact = False
    if not intact:
        raise EaiError(
            f"{file} is no receipt of a forecast as it was made",
            "make the forecast again",
            code="forecast-damaged",
        )
    return receipt


def checked(record: RunRecord, root: Path | None = None) -> list[str]:
    """Return for each kept forecast of a run like `record` what it said, and what was measured."""
    lines = []
    for folder in list_runs(root):
        for file in sorted(folder.glob(_NAME.format("*"))):
            try:
                receipt = read(file)
            except EaiError:
                continue  # changed since: it proves nothing
            if receipt["run"] != record.info.run and (line := _against(receipt, record)):
                lines.append(line)
    return lines


def _against(receipt: dict[str, Any], record: RunRecord) -> str:
    info = record.info
    like = all(info.meta.get(name) == value for name, value in receipt["same"].items())
    wire = str(info.meta.get("wire", "fp32"))
    point = next((p for p in receipt["points"] if p["ranks"] == info.size), None)
    if not like or wire != receipt["wire"] or point is None or point["refused"]:
        return ""
    if receipt["scenario"]["link"] is not None or receipt["made"] > info.started:
        return ""
    measured = facts_of(record).step
    inside = point["low_ms"] <= 1e3 * measured <= point["high_ms"]
    off = 1e3 * measured / point["step_ms"] - 1
    return (
        f"forecast {receipt['hash'][:12]} of run {receipt['run']}: {ms(point['step_ms'] / 1e3)} "
        f"({ms(point['low_ms'] / 1e3)} to {ms(point['high_ms'] / 1e3)}), measured {ms(measured)}: "
        f"{'inside' if inside else 'outside'} the band, {100 * off:+.1f} %"
    )


def to_text(receipt: dict[str, Any]) -> str:
    """Return a receipt as a table for people."""
    seen, scenario = receipt["exchange"], receipt["scenario"]
    changes = [f"{receipt['wire']}"]
    if scenario["link"] is not None:
        changes.append(f"link {amount(scenario['link'])}/s")
    changes.append(
        "the batch of all ranks as it was" if scenario["strong"] else "a rank's batch as it was"
    )
    lines = [
        f"from run {receipt['run']} on {receipt['ranks']} ranks, {ms(receipt['step_ms'] / 1e3)} a step"
    ]
    if seen is not None:
        link = "unknown" if seen["link"] is None else f"{amount(seen['link'])}/s"
        lines[0] += f", {amount(seen['gradients'])} of gradients, link {link}"
    lines += [f"for {', '.join(changes)}", ""]
    lines.append(
        f"{'ranks':>6}{'step':>10}{'90 % band':>22}{'samples/s':>12}{'efficiency':>12}  largest"
    )
    for each in receipt["points"]:
        lines.append(_line(each))
    points = _points(receipt)
    if (found := knee(points)) is not None:
        lines += ["", f"up to {found} ranks each is at least half as fast as one alone"]
    if (next_one := worth_running(points)) is not None:
        lines.append(f"most would be learned from a run on {next_one} ranks")
    return "\n".join([*lines, f"receipt {receipt['hash'][:12]}"])


def _line(point: dict[str, Any]) -> str:
    if point["refused"]:
        return f"{point['ranks']:>6}  no forecast: {point['refused']}"
    band = f"{ms(point['low_ms'] / 1e3)} to {ms(point['high_ms'] / 1e3)}"
    speed = "" if point["samples_per_s"] is None else count(point["samples_per_s"])
    share = "" if point["efficiency"] is None else percent(point["efficiency"])
    step = ms(point["step_ms"] / 1e3)
    return f"{point['ranks']:>6}{step:>10}{band:>22}{speed:>12}{share:>12}  {point['largest']}"


def to_csv(receipt: dict[str, Any]) -> str:
    """Return the points of a receipt as CSV, a line a number of ranks."""
    target = io.StringIO()
    writer = csv.DictWriter(target, list(receipt["points"][0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(receipt["points"])
    return target.getvalue()


def _fields(point: Point) -> dict[str, Any]:
    return {
        "ranks": point.ranks,
        "step_ms": _plain(1e3 * point.step),
        "low_ms": _plain(1e3 * point.low),
        "high_ms": _plain(1e3 * point.high),
        "samples_per_s": _plain(point.samples_per_s),
        "efficiency": _plain(point.efficiency),
        "largest": point.largest,
        "refused": point.refused,
    }


def _points(receipt: dict[str, Any]) -> list[Point]:
    def number(value: float | None) -> float:
        return np.nan if value is None else value

    return [
        Point(
            each["ranks"],
            number(each["step_ms"]),
            number(each["low_ms"]),
            number(each["high_ms"]),
            efficiency=number(each["efficiency"]),
            refused=each["refused"],
        )
        for each in receipt["points"]
    ]


def _plain(value: float) -> float | None:
    """Return a number that JSON has, with six digits; None for NaN."""
    return float(f"{value:.6g}") if np.isfinite(value) else None
