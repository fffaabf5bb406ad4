"""Plays a run into the displays of the kernel it is imported in, as a session would."""

from __future__ import annotations

import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Final

import numpy as np
from synthetic import run_record, run_rows

from eai_notebook.display import LiveRun
from eai_notebook.display.panel_channel import PanelChannel
from eai_notebook.ledger.aggregate import Summary
from eai_notebook.ledger.merge import GrowingLedger, merge
from eai_notebook.ledger.report import report
from eai_notebook.ledger.training_curve import TrainingCurve
from eai_notebook.ledger.view_model import record_view, run_view
from eai_notebook.telemetry.messages import TrainingProgress


class Player:
    """Stands in for a session with a group: a panel channel and a run that takes a while."""

    def __init__(self, ranks: int = 4) -> None:
        self.stopped = threading.Event()
        self.commands: list[str] = []
        self.ranks = ranks
        self.panel = PanelChannel(self._on_command)
        self._diff: dict[str, Any] | None = None
        self._group("up")

    def play(
        self,
        seconds: float,
        steps: int = 200,
        *,
        live: bool = True,
        folder: Path | None = None,
        until: str = "",
        **run: Any,
    ) -> list[str]:
        """Show a run growing for some seconds, or until someone presses Stop.

        A long one, which is only there while something else is looked at, lasts until then. With `until`
        the run has not ended before there is a file of that name.
        """
        rows = run_rows(self.ranks, steps, **run)
        record = run_record(folder or Path(tempfile.mkdtemp()), rows)
        growing, summary, curve = GrowingLedger(self.ranks), Summary(), TrainingCurve(1)
        for rank in rows:
            growing.begin(rank, clock_offset=0.0)
        self._group("busy")
        shown = LiveRun("wide_deep")
        ended = time.monotonic() + seconds
        # Each picture takes the browser a tenth of a second: a run that is only there needs few.
        is_long = seconds >= LONG_S
        frames = int(seconds * (2 if is_long else 5))
        info = record.info
        info.state, info.ended, info.started = "running", None, time.time()
        info.meta.update(epochs=2, steps_per_epoch=steps // 2)
        try:
            for piece in np.array_split(np.arange(steps), frames):
                for rank in rows:
                    growing.add(rank, rows[rank][piece])
                summary.add(growing.take())
                self._learn(curve, int(piece[-1]) + 1, steps)
                view = run_view(info, summary, curve)
                self.panel.run(view)
                if live:
                    shown.update(view)
                left = (ended - time.monotonic()) / frames
                if self.stopped.wait(pause(int(piece[-1]), left, is_long=is_long)):
                    break
            while (
                until and not Path(until).exists()
            ):  # a page that was loaded anew hears of it, too
                self.panel.run(view)
                shown.update(view)
                time.sleep(0.5)
            if is_long:
                self.stopped.wait()
        except KeyboardInterrupt:
            self._group("up")
            raise
        info.state, info.ended = "done", time.time()
        final = record_view(record) | {"training": curve.model(info.meta)}
        self.panel.run(final)
        if live:
            shown.finish(final)
        self._group("up")
        return self.commands

    def curve(self, steps: int) -> dict[str, Any] | None:
        """Return the training of a run of so many steps, as a view has it."""
        curve = TrainingCurve(1)
        for step in range(1, steps + 1, max(1, steps // 100)):
            self._learn(curve, step, steps)
        return curve.model({"epochs": 2, "steps_per_epoch": steps // 2})

    def _learn(self, curve: TrainingCurve, step: int, steps: int) -> None:
        """Have the loss fall and the AUC grow."""
        epoch = min(1, step * 2 // steps)
        values = {"loss": 0.4 + 0.3 / (1 + step / 20), "auc": 0.8 - 0.3 / (1 + step / 30)}
        curve.add(TrainingProgress("abc123", 0, step, epoch, values))
        if epoch and not curve.ends:
            ended = {**values, "val_loss": values["loss"] + 0.05}
            curve.add(TrainingProgress("abc123", 0, step, 0, ended, whole=True))

    def _on_command(self, name: str, arguments: dict[str, Any]) -> Any:
        self.commands.append(f"{name} in {threading.current_thread().name}")
        if name == "interrupt":
            self.stopped.set()
            return None
        if name == "try":
            return f"{arguments['words']}: tried in run {arguments['run']}"
        if name == "diff":
            threading.Timer(1.5, self._compared).start()
            return "`model` of ranks 0-3 is compared at the end of step 100000"
        if name == "log":
            return f"Epoch 1/3\nWARNING: slow disk\nrank {arguments['rank']}: 31 batches read"
        if name in ANSWERS:
            return ANSWERS[name]
        message = f"the player cannot {name} {arguments}"
        raise RuntimeError(message)

    def _compared(self) -> None:
        words = "`model.weights[0]` of rank 3 differs from rank 0 at the end of step 100000"
        self._diff = {"number": 1, "words": words}
        self._group("busy")

    def _group(self, state: str) -> None:
        ranks = [
            {
                "rank": rank,
                "host": f"gpu{1 + rank // 8}",
                "pid": 4000 + rank,
                "state": "idle" if state == "up" else "busy",
                "vitals": vitals(rank),
                "line": f"rank {rank}: 31 batches read",
            }
            for rank in range(self.ranks)
        ]
        model = {"state": state, "size": self.ranks, "message": "", "ranks": ranks}
        self.panel.group(model | {"diff": self._diff})


SOON: Final = 100
"""Steps of a long run that are shown at once."""

LONG_S: Final = 20.0
"""A run as long as that is not watched to its end; it has none but Stop."""


def pause(step: int, left: float, *, is_long: bool) -> float:
    """Return the seconds before the next picture: of a long run, few after those tests look at."""
    if not is_long:
        return max(0.0, left)
    return 0.1 if step < SOON else 2.0


ADVICE: Final = {
    "run": "abc123",
    "verdict": "input-bound: 61 % of each step waits for the next batch",
    "step_ms": 41.9,
    "remedies": [
        {
            "number": number, "words": words, "loss": "`input`", "expected_ms": 22.5, "low_ms": 17.9,
            "high_ms": 22.6, "keeps_results": keeps, "can_try": keeps,
        }
        for number, (words, keeps) in enumerate(
            [("twice the readers: `readers=4`", True), ("twice the `batch_size`", False)], 1
        )
    ],
    "unmodelled": ["end what else runs there"],
}  # fmt: skip
"""What the player's kernel advises."""

ANSWERS: Final = {
    "where": "ranks 0-1: training step 12",
    "advise": ADVICE,
    "report": report(merge(run_rows(2, 100), {})).model(),
}
"""What the player's kernel answers, whatever is asked."""


def vitals(rank: int) -> dict[str, Any]:
    """Return what a rank reports about itself; the first host has GPUs, the others have none."""
    gpu = {"index": rank % 8, "name": "a GPU", "busy_pct": 60.0 + rank % 30}
    memory = {"used_bytes": 31e9, "total_bytes": 80e9}
    return {
        "cpu_pct": 97.0,
        "memory_bytes": 2.1e9,
        "gpus": [gpu | memory] if rank < 8 else [],
        "no_gpu": "" if rank < 8 else "no GPU",
    }
