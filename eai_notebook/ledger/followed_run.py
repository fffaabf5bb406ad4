"""Follow a run record as it grows, or read one whole: its summary and its training curve.

Every display of a run is made from these, so all of them are about the same steps.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from eai_notebook.ledger.aggregate import Summary
from eai_notebook.ledger.context import Context
from eai_notebook.ledger.facts import Facts
from eai_notebook.ledger.merge import GrowingLedger
from eai_notebook.ledger.training_curve import TrainingCurve
from eai_notebook.telemetry.messages import RunBegan, RunMessage, StepsDone, TrainingProgress

if TYPE_CHECKING:
    from eai_notebook.ledger.run_record import RunInfo, RunRecord

CHUNK: Final = 64_000
"""Rows of a record that are read at a time, of all ranks together."""


class FollowedRun:
    """A record that may still be written: each `read` costs only what is new.

    Its writer may `add_message` what it writes; then nothing is read back. With ``section``, a
    first step and the step after the last one, only the rows of these steps are read.
    """

    def __init__(self, record: RunRecord, section: tuple[int, int] | None = None) -> None:
        self._record = record
        self._section = section
        self._stop: dict[int, int] = {}  # the row after the last one of the section
        self.summary = Summary()
        self.curve = TrainingCurve(record.info.size)
        self.vitals = record.vitals()
        self._growing = GrowingLedger(record.info.size)
        self._read: dict[int, int] = {}
        self._lines_read = 0  # bytes of the training's lines
        self._pending = 0  # rows that wait for the next `read`
        self._by_messages = False

    @property
    def info(self) -> RunInfo:
        """What the run is."""
        return self._record.info

    def add_message(self, message: RunMessage) -> None:
        """Add a message that has just been added to the record: all of them, or none."""
        self._by_messages = True
        if isinstance(message, RunBegan):
            self._growing.begin(message.rank, message.clock_offset, message.clock_uncertainty)
        elif isinstance(message, TrainingProgress):
            self.curve.add(message)
        elif isinstance(message, StepsDone):
            self._growing.add(message.rank, message.rows)
            self._pending += len(message.rows)
            if self._pending > CHUNK:
                self.read()

    def read(self) -> None:
        """Add what has been written since the last time to the summary, a piece at a time."""
        if self._by_messages:
            self._pending = 0
            self.summary.add(self._growing.take())
            return
        progress, self._lines_read = self._record.training(self._lines_read)
        for each in progress:
            self.curve.add(each)
        count = max(1, CHUNK // self.info.size)
        while self._read_piece(count):
            self.summary.add(self._growing.take())
        self.summary.add(self._growing.take())

    def _read_piece(self, count: int) -> bool:
        """Read at most `count` rows of each rank; return whether there may be more."""
        more = False
        for rank in self._record.ranks:
            if rank not in self._read:
                doubt = self.info.clock_uncertainty.get(rank, 0.0)
                self._growing.begin(rank, self.info.clock_offset[rank], doubt)
                self._read[rank] = 0
                if self._section is not None:
                    self._read[rank], self._stop[rank] = self._record.find(rank, *self._section)
            wanted = min(count, self._stop.get(rank, sys.maxsize) - self._read[rank])
            rows = self._record.rows(rank, start=self._read[rank], count=wanted)
            self._growing.add(rank, rows)
            self._read[rank] += len(rows)
            more = more or len(rows) == count
        return more

    def facts(self) -> Facts:
        """Return the numbers of the run as far as it was read."""
        return Facts(self.summary.kept, Context.of(self.info))

    def finish(self) -> None:
        """Add the steps that only some ranks came to; no more are expected."""
        self.summary.add(self._growing.rest())


def read_run(record: RunRecord, section: tuple[int, int] | None = None) -> FollowedRun:
    """Return a run on disk, whole as far as it is written, or the steps of a section of it."""
    run = FollowedRun(record, section)
    run.read()
    run.finish()
    return run
