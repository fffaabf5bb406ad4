"""How ranks were over time: in bounded memory, on disk and in a view."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from synthetic import run_rows

from eai_notebook.display.html_page import page
from eai_notebook.ledger.run_record import RunRecord
from eai_notebook.ledger.view_model import record_view
from eai_notebook.ledger.vitals_curve import MOST_BUCKETS, VitalsCurve
from eai_notebook.session.run_recorder import RunRecorder
from eai_notebook.telemetry.messages import Gpu, ResourceUsage, RunBegan, RunEnded, StepsDone

if TYPE_CHECKING:
    from pathlib import Path


def usage(rank: int, cpu: float, network: float | None = 3e6) -> ResourceUsage:
    gpus = [Gpu(0, "a GPU", 60.0, 31e9, 80e9)] if rank == 0 else []
    pid = 100 + rank
    return ResourceUsage(rank, cpu, 2e9, gpus, network_bytes_per_s=network, pid=pid)


def test_a_long_run_has_few_points_and_the_same_means() -> None:
    curve = VitalsCurve()
    for look in range(5000):
        curve.add(2.0 * look, usage(0, 40.0 + 20.0 * (look % 2)))
    model = curve.model({0: "here"})
    assert model is not None
    (line,) = model["lines"]["cpu_pct"]
    assert MOST_BUCKETS / 2 <= len(line["values"]) <= MOST_BUCKETS
    assert set(line["values"]) == {50.0}
    assert model["width_s"] * len(line["values"]) == pytest.approx(10_000, rel=0.05)
    assert model["lines"]["gpu_pct"] == [
        {"label": "rank 0", "values": [60.0] * len(line["values"])}
    ]


def test_many_ranks_have_three_lines_and_hosts_one_network_each() -> None:
    curve = VitalsCurve()
    hosts = {rank: f"gpu{rank // 8}" for rank in range(16)}
    for rank in hosts:
        curve.add(1.0, usage(rank, float(rank), 1e6 * (1 + rank // 8)))
    model = curve.model(hosts)
    assert model is not None
    drawn = {line["label"]: line["values"] for line in model["lines"]["cpu_pct"]}
    assert drawn == {"lowest": [0.0], "mean": [7.5], "highest": [15.0]}
    networks = {line["label"]: line["values"] for line in model["lines"]["network_mb_per_s"]}
    assert networks == {"gpu0": [1.0], "gpu1": [2.0]}


def test_what_was_not_measured_is_missing() -> None:
    curve = VitalsCurve()
    assert curve.model({}) is None
    curve.add(1.0, usage(1, 50.0, None))
    curve.add(7.0, usage(1, 70.0, None))
    model = curve.model({1: "here"})
    assert model is not None
    assert set(model["lines"]) == {"cpu_pct", "memory_mb"}
    assert model["lines"]["cpu_pct"][0]["values"] == [50.0, None, None, 70.0]


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"width_s": 2, "quantities": ["x"], "ranks": {}}']
)
def test_a_damaged_file_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not the vitals"):
        VitalsCurve.from_json(text)


def test_numbers_that_are_none_are_refused() -> None:
    curve = VitalsCurve()
    curve.add(1.0, usage(0, 50.0))
    raw = json.loads(curve.to_json())
    assert VitalsCurve.from_json(json.dumps(raw)).model({}) == curve.model({})
    raw["ranks"]["0"]["sums"][0][0] = float("nan")
    with pytest.raises(ValueError, match="finite"):
        VitalsCurve.from_json(json.dumps(raw))


def test_a_run_on_some_ranks_of_a_group_has_the_vitals_of_these(tmp_path: Path) -> None:
    keeper, rows = RunRecorder(tmp_path), run_rows(2, 60)
    for rank in range(2):  # ranks 1 and 2 of a group
        keeper.take(RunBegan("r12345678", rank, 2, "wide", "here", 101 + rank))
        keeper.take(StepsDone("r12345678", rank, rows[rank]))
    for rank in range(3):
        keeper.take_usage(usage(rank, 10.0 * rank))
    (live, _), *_ = keeper.views_due()
    assert [line["values"][-1] for line in live["vitals"]["lines"]["cpu_pct"]] == [10.0, 20.0]
    for rank in range(2):
        keeper.take(RunEnded("r12345678", rank, "done", 0.0))
    (final, _), *_ = keeper.views_due()
    assert final["vitals"] == live["vitals"]
    record = RunRecord(keeper.records[0].path)
    assert record_view(record)["vitals"] == live["vitals"]
    saved = page(record)
    assert saved.count('over time" style=') == 3
    assert "rank 1 20 % " in saved
    assert "3 MB/s" in saved
