"""Record a session's runs from telemetry and make views of them for displays."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from eai_notebook.ledger import profile_merge
from eai_notebook.ledger.run_record import RunRecord
from eai_notebook.ledger.view_model import LiveView
from eai_notebook.telemetry.messages import ProfileTaken, RunBegan, RunMessage

if TYPE_CHECKING:
    from pathlib import Path

REFRESH_S = 0.25
VIEW_TIME_SHARE = 0.1
"""Drawing may take this share of the kernel's time: many ranks are looked at less often."""

LONGEST_S = 0.7
"""But this often at least: what has come is to be on the screen within a second."""


class RunRecorder:
    """Writes the messages of a session's ranks to run records below `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.records: list[RunRecord] = []
        self._open: dict[str, RunRecord] = {}
        self._live: dict[str, LiveView] = {}
        self._next_look: dict[str, float] = {}
        self.facts: dict[str, Any] = {}
        """What is known of the group, and goes into the record of each of its runs."""
        self._traces: dict[str, dict[int, ProfileTaken]] = {}

    def take(self, message: RunMessage) -> None:
        """Write `message` to its run's record; a rank's first word makes the record."""
        record = self._open.get(message.run)
        if record is None:
            if not isinstance(message, RunBegan):
                return  # a run that was given up; its rank does not know yet
            record = RunRecord.create(self.root, message)
            record.info.meta.update(self.facts)
            self._open[message.run] = record
            self._live[message.run] = LiveView(record)
            self.records.append(record)
        if isinstance(message, ProfileTaken):
            self._traces.setdefault(message.run, {})[message.rank] = message
            return
        record.add(message)
        self._live[message.run].add_message(message)

    def traces_due(self, *, ended: bool = False) -> list[str]:
        """Write the traces in depth that all ranks have sent; return what is in each, in words.

        A trace waits for the rows of its steps. With `ended` the cell is over, and what
        some ranks have sent is all there is.
        """
        told = []
        for run, taken in list(self._traces.items()):
            record = self._open[run]
            last = max(each.last for each in taken.values())
            whole = len(taken) == record.info.size and self._live[run].steps > last
            if whole or ended or record.info.state != "running":
                del self._traces[run]
                file, words = profile_merge.write(record, taken)
                told.append(f"{words}\ntrace: {file}, for ui.perfetto.dev")
        return told

    def views_due(self, *, ended: bool = False) -> list[tuple[dict[str, Any], bool]]:
        """Return the views that are due to be shown, each with whether it is the last.

        With `ended` the cell is over: runs that nobody closed are lost, and every run
        is shown once more.
        """
        due = []
        for run, record in list(self._open.items()):
            if ended:
                record.close("lost")
            final = record.info.state != "running"
            if final or time.monotonic() >= self._next_look.get(run, 0.0):
                due.append((self._look(run), final))
            if final:
                del self._open[run], self._live[run]
        return due

    def _look(self, run: str) -> dict[str, Any]:
        began = time.monotonic()
        view = self._live[run].look()
        ended = time.monotonic()
        pause = max(REFRESH_S, (ended - began) / VIEW_TIME_SHARE)
        self._next_look[run] = ended + min(pause, LONGEST_S)
        return view
