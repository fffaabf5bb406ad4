"""The training curve of a run: loss and metrics over steps and epochs, and how far it has come.

Within an epoch a rank reports Keras's running means over its own batches; the mean over all ranks
is drawn. At an epoch's end rank 0 reports the metrics of all ranks.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

from eai_notebook.ledger.formatting import duration

if TYPE_CHECKING:
    from eai_notebook.ledger.run_record import RunInfo
    from eai_notebook.telemetry.messages import TrainingProgress

MOST_POINTS: Final = 120
"""Of a curve; when there are more, every second one is left out."""

MOST_EPOCHS: Final = 120
"""Epochs whose ends are drawn; the same rule holds."""


class TrainingCurve:
    """Collects the ranks' reports of their training; displays draw `model`.

    Examples:
        >>> from eai_notebook.telemetry.messages import TrainingProgress
        >>> curve = TrainingCurve(size=2)
        >>> for rank, loss in (0, 0.5), (1, 0.7):
        ...     curve.add(TrainingProgress("r", rank, 8, 0, {"loss": loss}))
        >>> curve.model({"epochs": 2, "steps_per_epoch": 10})["values"]
        {'loss': 0.6}
    """

    def __init__(self, size: int) -> None:
        """Expect the messages of `size` ranks."""
        self._size = size
        self._fresh: set[int] = set()
        self._latest: dict[int, TrainingProgress] = {}
        self._points: list[tuple[int, dict[str, float]]] = []
        self.ends: list[tuple[int, int, dict[str, float]]] = []
        self._every = 1
        self._seen = 0

    def add(self, progress: TrainingProgress) -> None:
        """Take one message; those of one rank come in order."""
        if progress.whole:
            self.ends.append((progress.epoch, progress.step, progress.values))
            if len(self.ends) > MOST_EPOCHS:
                del self.ends[1:-1:2]
            return
        self._latest[progress.rank] = progress
        self._fresh.add(progress.rank)
        if len(self._fresh) < self._size:
            return
        # One point whenever all ranks have reported something new.
        self._fresh.clear()
        if self._seen % self._every == 0:
            step = min(each.step for each in self._latest.values())
            self._points.append((step, self._mean()))
            if len(self._points) > MOST_POINTS:
                self._points = self._points[::2]
                self._every *= 2
        self._seen += 1

    def model(self, meta: dict[str, Any]) -> dict[str, Any] | None:
        """Return the curve as JSON; None before the first report.

        ``values`` are the latest, ``curves`` a ``step`` and a ``value`` list for each metric,
        ``ends`` the metrics of all ranks at each epoch's end; ``val_`` names are validation's.
        ``step`` and ``steps`` are how far the run has come, and how far it is to go.
        """
        if not self._latest and not self.ends:
            return None
        epochs, length = meta.get("epochs"), meta.get("steps_per_epoch")
        last = max((progress.epoch for progress in self._latest.values()), default=0)
        last = max(last, self.ends[-1][0] if self.ends else 0)
        values = self._mean() if self._latest else {}
        if self.ends:
            epoch, _, ended = self.ends[-1]
            # Validation is known of the last whole epoch only; the rest goes on.
            kept = {n: v for n, v in ended.items() if epoch >= last or n not in values}
            values = {**values, **kept}
        return {
            "epoch": last + 1,
            "epochs": epochs,
            "steps": epochs * length if epochs and length else None,
            "values": {name: _short(value) for name, value in values.items()},
            "curves": {name: self._curve(name) for name in _names(self._points)},
            "ends": [
                {"epoch": epoch + 1, "step": step, "values": {n: _short(v) for n, v in vs.items()}}
                for epoch, step, vs in self.ends
            ],
        }

    def _mean(self) -> dict[str, float]:
        """Return the mean of each metric over the ranks that are in the latest epoch."""
        epoch = max(progress.epoch for progress in self._latest.values())
        reported = [one.values for one in self._latest.values() if one.epoch == epoch]
        return {
            name: sum(values[name] for values in reported if name in values)
            / sum(name in values for values in reported)
            for name in reported[0]
        }

    def _curve(self, name: str) -> dict[str, Any]:
        points = [(step, values[name]) for step, values in self._points if name in values]
        return {
            "step": [step for step, _ in points],
            "value": [_short(value) for _, value in points],
        }


def summary_line(training: dict[str, Any] | None, info: RunInfo) -> str:
    """Return how far a run has come and what it reached, in one line; empty if nothing is known."""
    fragments = []
    if training is not None:
        of = f" of {training['epochs']}" if training["epochs"] else ""
        fragments.append(f"epoch {training['epoch']}{of}")
        fragments += [
            f"{name} {value:.4g}" for name, value in training["values"].items() if value is not None
        ]
    if info.ended is not None:
        took = duration(max(0.0, info.ended - info.started))
        fragments.append(took if info.state == "done" else f"{info.state} after {took}")
    return " · ".join(fragments)


def _names(points: list[tuple[int, dict[str, float]]]) -> list[str]:
    names: dict[str, None] = {}
    for _, values in points:
        names.update(dict.fromkeys(values))
    return list(names)


def _short(value: float) -> float | None:
    """Return a number that JSON has, with five digits."""
    return float(f"{value:.5g}") if math.isfinite(value) else None
