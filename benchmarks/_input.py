"""Shared by the input benchmarks: rows read per CPU second of this process."""

from __future__ import annotations

import gc
import resource
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from _harness import bootstrap_interval, say

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

SETTLE_S = 0.3
"""Between two readings, so that threads of the first do not count for the second."""


@dataclass
class Contest:
    """Readers that take turns, and what each needed: CPU and wall seconds a row, by round."""

    readers: Mapping[str, Callable[[], int]]
    cpu: dict[str, list[float]] = field(default_factory=dict)
    wall: dict[str, list[float]] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)

    def run(self, rounds: int) -> None:
        """Read with each in turn; a round before the first compiles and fills caches."""
        for number in range(rounds + 1):
            for name, read in self.readers.items():
                gc.collect()
                time.sleep(SETTLE_S)
                cpu, wall = _cpu_s(), time.perf_counter()
                rows = read()
                cpu, wall = _cpu_s() - cpu, time.perf_counter() - wall
                if number:
                    self.cpu.setdefault(name, []).append(cpu / rows)
                    self.wall.setdefault(name, []).append(wall / rows)
                    self.rows[name] = rows
            if number:
                shown = {name: f"{1e6 * values[-1]:.2f}" for name, values in self.cpu.items()}
                say(f"round {number}: CPU s per million rows {shown}")

    def rate(self, name: str) -> dict[str, Any]:
        """Return million rows per CPU second, with its interval."""
        rates = 1e-6 / np.array(self.cpu[name])
        return {"median": float(np.median(rates)), "interval": bootstrap_interval(rates)}

    def ratio(self, name: str, to: str) -> dict[str, Any]:
        """Return how many times as much CPU `to` needs, round by round."""
        ratios = np.array(self.cpu[to]) / np.array(self.cpu[name])
        return {"median": float(np.median(ratios)), "interval": bootstrap_interval(ratios)}

    def details(self) -> dict[str, Any]:
        """Return what goes into the result file."""
        return {
            name: {
                "rows_a_pass": self.rows[name],
                "million_rows_per_cpu_s": self.rate(name),
                "cpu_s_per_million_rows": [round(1e6 * value, 4) for value in self.cpu[name]],
                "wall_s_per_million_rows": [round(1e6 * value, 4) for value in self.wall[name]],
            }
            for name in self.cpu
        }


def count(batches: Any) -> int:
    """Read all batches of ``(features, label)``, and return the rows."""
    rows = 0
    for _, label in batches:
        rows += int(label.shape[0])
    return rows


def checksum(batches: Any) -> dict[str, int]:
    """Return sums over all bits of what a model sees, whatever the order of rows."""
    sums = {"rows": 0, "numbers": 0, "ids": 0, "labels": 0}
    for features, label in batches:
        sums["rows"] += int(label.shape[0])
        sums["labels"] += int(label.numpy().sum())
        numbers = features["numbers"].numpy()
        # Each number by its bits and its column, so that none may stand for another.
        weights = np.arange(1, numbers.shape[1] + 1)
        sums["numbers"] += int((numbers.view(np.int32).astype(np.int64) * weights).sum())
        ids = features["ids"].numpy()
        weights = np.arange(1, ids.shape[1] + 1)
        sums["ids"] += int((ids.astype(np.int64) * weights).sum())
    return sums


def same(sums: Sequence[dict[str, int]]) -> None:
    """Stop unless all sums are equal."""
    assert all(one == sums[0] for one in sums), sums


def _cpu_s() -> float:
    """Return the processor time of this process and of its children."""
    total = 0.0
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        used = resource.getrusage(who)
        total += used.ru_utime + used.ru_stime
    return total
