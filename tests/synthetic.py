"""Rows of runs whose account is known, for the tests of the ledger and of the displays."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from eai_notebook.ledger.run_record import RunRecord
from eai_notebook.ledger.step_schema import empty_steps
from eai_notebook.telemetry.messages import RunBegan, RunEnded, StepsDone

if TYPE_CHECKING:
    from pathlib import Path

START = 1_790_000_000.0


def run_rows(
    ranks: int = 2,
    steps: int = 200,
    *,
    seed: int = 0,
    jitter: float = 0.0003,
    compile_step: bool = True,
    late: dict[int, dict[str, float]] | None = None,
    **everywhere: float,
) -> dict[int, np.ndarray]:
    """Return rows of a ring in lockstep.

    `everywhere` gives lengths of parts in seconds (``input``, ``compute``, ``transfer``,
    ``update``, ``other``), `late` what a rank has on top of that.
    """
    rng = np.random.default_rng(seed)
    base = {
        "input": 0.0005, "compute": 0.010, "transfer": 0.001, "update": 0.0008, "other": 0.0003,
    } | everywhere  # fmt: skip

    def length(part: str) -> np.ndarray:
        own = np.array([base[part] + (late or {}).get(r, {}).get(part, 0) for r in range(ranks)])
        return np.maximum(own[:, None] + rng.normal(0, jitter, (ranks, steps)), 1e-6)

    parts = {part: length(part) for part in base}
    if compile_step:
        parts["compute"][:, 0] = 2.5
    clock = np.full(ranks, START)
    rows = {rank: empty_steps(steps) for rank in range(ranks)}
    for step in range(steps):
        ready = (
            clock + parts["other"][:, step] + parts["input"][:, step] + parts["compute"][:, step]
        )
        reduced = ready.max() + parts["transfer"][0, step]
        end = reduced + parts["update"][:, step]
        for rank in range(ranks):
            row = rows[rank][step : step + 1]
            row["begin"], row["end"] = clock[rank], end[rank]
            row["samples"], row["bytes"] = 512, 4_000_000
            if step == 0 and compile_step:
                continue
            row["ready"], row["reduced"] = ready[rank], reduced
            row["hidden"] = 0.002
            for part in ("input", "compute", "update"):
                row[part] = parts[part][rank, step]
        clock = end
    return rows


def run_record(folder: Path, rows: dict[int, np.ndarray], name: str = "wide_deep") -> RunRecord:
    """Return a finished record on disk of the given rows."""
    ranks = len(rows)
    began = [RunBegan("abc123", r, ranks, name, f"gpu{1 + r // 8}", 4000 + r) for r in range(ranks)]
    record = RunRecord.create(folder, began[0])
    for rank, message in enumerate(began):
        record.add(message)
        record.add(StepsDone("abc123", rank, rows[rank]))
    for rank in range(ranks):
        record.add(RunEnded("abc123", rank, "done", 0.0001 * len(rows[rank]) / 10))
    return record
