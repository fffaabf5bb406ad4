"""Plays a run into the displays of the kernel it is imported in, as a session would."""

from __future__ import annotations

import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from synthetic import run_record, run_rows

from eai_notebook.display import LiveRun
from eai_notebook.display.panel_channel import PanelChannel
from eai_notebook.ledger.aggregate import Summary
from eai_notebook.ledger.merge import GrowingLedger
from eai_notebook.ledger.view_model import record_view, run_view


class Player:
    """Stands in for a session with a group: a panel channel and a run that takes a while."""

    def __init__(self, ranks: int = 4) -> None:
        self.stopped = threading.Event()
        self.commands: list[str] = []
        self.ranks = ranks
        self.panel = PanelChannel(self._on_command)
        self._group("up")

    def play(self, seconds: float, steps: int = 200, *, live: bool = True, **run: Any) -> list[str]:
        """Show a run growing for some seconds, or until someone presses Stop."""
        rows = run_rows(self.ranks, steps, **run)
        record = run_record(Path(tempfile.mkdtemp()), rows)
        growing, summary = GrowingLedger(self.ranks), Summary()
        for rank in rows:
            growing.begin(rank, clock_offset=0.0)
        self._group("busy")
        shown = LiveRun("wide_deep")
        ended = time.monotonic() + seconds
        frames = int(seconds * 5)
        info = record.info
        info.state = "running"
        try:
            for piece in np.array_split(np.arange(steps), frames):
                for rank in rows:
                    growing.add(rank, rows[rank][piece])
                summary.add(growing.take())
                view = run_view(info, summary)
                self.panel.run(view)
                if live:
                    shown.update(view)
                if self.stopped.wait(max(0.0, (ended - time.monotonic()) / frames)):
                    break
        except KeyboardInterrupt:
            self._group("up")
            raise
        info.state = "done"
        final = record_view(record)
        self.panel.run(final)
        if live:
            shown.finish(final)
        self._group("up")
        return self.commands

    def _on_command(self, name: str, arguments: dict[str, Any]) -> Any:
        self.commands.append(f"{name} in {threading.current_thread().name}")
        if name == "interrupt":
            self.stopped.set()
            return None
        if name == "log":
            return f"Epoch 1/3\nrank {arguments['rank']}: 31 batches read"
        message = f"the player cannot {name} {arguments}"
        raise RuntimeError(message)

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
        self.panel.group({"state": state, "size": self.ranks, "message": "", "ranks": ranks})


def vitals(rank: int) -> dict[str, Any]:
    """Return what a rank tells of itself; the first host has GPUs, the others have none."""
    gpu = {"index": rank % 8, "name": "a GPU", "busy_pct": 60.0 + rank % 30}
    memory = {"used_bytes": 31e9, "total_bytes": 80e9}
    return {
        "cpu_pct": 97.0,
        "memory_bytes": 2.1e9,
        "gpus": [gpu | memory] if rank < 8 else [],
        "no_gpu": "" if rank < 8 else "no GPU",
    }
