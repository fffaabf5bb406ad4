"""CPU, memory, network and GPU of each rank over the time of a run, in bounded memory.

A rank says how it is every few seconds. A run of a day would be a hundred thousand of these for
each rank; a curve in a display has a hundred points. So they are kept in buckets of time, whose
width doubles when there are too many.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from typing_extensions import Self

    from eai_notebook.ledger.arrays import Floats
    from eai_notebook.telemetry.messages import ResourceUsage

MOST_BUCKETS: Final = 80
LEAST_WIDTH_S: Final = 2.0
"""Of a bucket at first: as often as ranks say how they are."""

MOST_LINES: Final = 8
"""Of more ranks only the lowest, the mean and the highest are drawn."""

QUANTITIES: Final = ("cpu_pct", "memory_mb", "network_mb_per_s", "gpu_pct", "gpu_memory_mb")
_NETWORK: Final = QUANTITIES.index("network_mb_per_s")
_MOST_RANKS_READ: Final = 100_000


class VitalsCurve:
    """Collects what ranks say of themselves; displays draw `model`.

    Examples:
        >>> from eai_notebook.telemetry.messages import ResourceUsage
        >>> curve = VitalsCurve()
        >>> for second in range(4):
        ...     curve.add(second, ResourceUsage(0, 50.0 + second, 2e9, []))
        >>> curve.model({0: "here"})["lines"]["cpu_pct"]
        [{'label': 'rank 0', 'values': [50.5, 52.5]}]
    """

    def __init__(self) -> None:
        self._width = LEAST_WIDTH_S
        self._sums: dict[int, Floats] = {}  # [MOST_BUCKETS, quantity] of each rank
        self._counts: dict[int, Floats] = {}
        self._used = 0

    def add(self, seconds: float, usage: ResourceUsage) -> None:
        """Take what a rank said, so many seconds after the run began."""
        if not 0 <= seconds < math.inf:
            return
        while seconds >= MOST_BUCKETS * self._width:
            self._fold()
        bucket = int(seconds / self._width)
        self._used = max(self._used, bucket + 1)
        values = np.array(_values(usage))
        known = np.isfinite(values)
        sums, counts = self._tables(usage.rank)
        sums[bucket] += np.where(known, values, 0.0)
        counts[bucket] += known

    def model(self, hosts: dict[int, str]) -> dict[str, Any] | None:
        """Return the curves as JSON; None before the first word of a rank.

        ``width_s`` is the time between two values. ``lines`` has the lines of each quantity that
        was measured, each a ``label`` and ``values`` from the begin of the run on, None where
        nothing was said. There is a line for each rank, or of many the lowest, the mean and the
        highest. The network is that of a host, which its ranks share.
        """
        if not self._sums:
            return None
        lines = {}
        for quantity, name in enumerate(QUANTITIES):
            by_rank = {rank: self._means(rank, quantity) for rank in sorted(self._sums)}
            known = {rank: line for rank, line in by_rank.items() if np.isfinite(line).any()}
            if quantity == _NETWORK:
                # All ranks of a host have measured the same.
                found = {hosts.get(rank, "?"): line for rank, line in reversed(known.items())}
                drawn = dict(sorted(found.items()))
            else:
                drawn = {f"rank {rank}": line for rank, line in known.items()}
            if drawn:
                lines[name] = _drawn(drawn)
        return {"width_s": self._width, "lines": lines} if lines else None

    def to_json(self) -> str:
        """Return the text of a record's ``vitals.json``."""
        ranks = {
            rank: {
                "sums": self._sums[rank][: self._used].round(3).tolist(),
                "counts": self._counts[rank][: self._used].astype(int).tolist(),
            }
            for rank in self._sums
        }
        return json.dumps({"width_s": self._width, "quantities": QUANTITIES, "ranks": ranks})

    @classmethod
    def from_json(cls, text: str) -> VitalsCurve:
        """Read the text of ``vitals.json``.

        Raises `ValueError` for one that is damaged, or of another version.
        """
        try:
            return cls().restore(json.loads(text))
        except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
            message = f"these are not the vitals of a run: {error}"
            raise ValueError(message) from error

    def restore(self, raw: dict[str, Any]) -> Self:
        """Take over what ``vitals.json`` holds; raises for one that is damaged."""
        self._width = float(raw["width_s"])
        if tuple(raw["quantities"]) != QUANTITIES or not 0 < self._width < math.inf:
            message = "its quantities or its width are not known"
            raise ValueError(message)
        for rank, table in list(raw["ranks"].items())[:_MOST_RANKS_READ]:
            for kept, name in zip(self._tables(int(rank)), ("sums", "counts"), strict=True):
                read = np.array(table[name], float).reshape(-1, len(QUANTITIES))
                if not np.isfinite(read).all():
                    message = "a number is not finite"
                    raise ValueError(message)
                kept[: len(read)] = read
                self._used = max(self._used, len(read))
        return self

    def _tables(self, rank: int) -> tuple[Floats, Floats]:
        shape = (MOST_BUCKETS, len(QUANTITIES))
        return (
            self._sums.setdefault(rank, np.zeros(shape)),
            self._counts.setdefault(rank, np.zeros(shape)),
        )

    def _fold(self) -> None:
        """Make buckets twice as wide."""
        for table in (*self._sums.values(), *self._counts.values()):
            table[: MOST_BUCKETS // 2] = table[::2] + table[1::2]
            table[MOST_BUCKETS // 2 :] = 0
        self._width *= 2
        self._used = (self._used + 1) // 2

    def _means(self, rank: int, quantity: int) -> Floats:
        counts = self._counts[rank][: self._used, quantity]
        sums = self._sums[rank][: self._used, quantity]
        return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def _values(usage: ResourceUsage) -> list[float]:
    """Return a rank's numbers in the order of `QUANTITIES`; NaN is not measured."""
    busy = [gpu.busy_pct for gpu in usage.gpus if gpu.busy_pct is not None]
    used = [gpu.used_bytes for gpu in usage.gpus if gpu.used_bytes is not None]
    return [
        _or_nan(usage.cpu_pct),
        1e-6 * _or_nan(usage.memory_bytes),
        1e-6 * _or_nan(usage.network_bytes_per_s),
        sum(busy) / len(busy) if busy else math.nan,
        1e-6 * sum(used) if used else math.nan,
    ]


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def _drawn(lines: dict[str, Floats]) -> list[dict[str, Any]]:
    """Return the lines that are drawn: all, or of many the lowest, the mean and the highest."""
    if len(lines) > MOST_LINES:
        table = np.stack(list(lines.values()))
        known = np.isfinite(table)
        count = known.sum(axis=0)
        low = np.where(known, table, np.inf).min(axis=0)
        high = np.where(known, table, -np.inf).max(axis=0)
        middle = np.where(known, table, 0.0).sum(axis=0) / np.maximum(count, 1)
        spread = {"lowest": low, "mean": middle, "highest": high}
        lines = {label: np.where(count > 0, line, np.nan) for label, line in spread.items()}
    return [{"label": label, "values": _short(line)} for label, line in lines.items()]


def _short(values: Floats) -> list[float | None]:
    """Return numbers that JSON has, with three digits."""
    return [float(f"{value:.3g}") if math.isfinite(value) else None for value in values.tolist()]
