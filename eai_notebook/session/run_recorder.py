"""Record a session's runs from telemetry and make views of them for displays."""

from __future__ import annotations

import math
import os
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from eai_notebook.bookkeeping import LEDGER, PRUNING, RECORD, TRACE, Bookkeeping
from eai_notebook.ledger import one_rank, profile_merge, view_cache
from eai_notebook.ledger.retention import limits, prune
from eai_notebook.ledger.run_lock import RunLock
from eai_notebook.ledger.run_record import RunRecord
from eai_notebook.ledger.view_model import SCHEMA, LiveView
from eai_notebook.telemetry import messages
from eai_notebook.telemetry.messages import (
    ProfileTaken,
    ResourceUsage,
    RunBegan,
    RunMessage,
    StepsDone,
)

REFRESH_S = 0.1
"""The least time between two looks at a run."""

PRUNE_EVERY_S = 3600.0
VITALS_S = 10.0
"""How often it is written how the ranks are, while a run goes on."""

VIEW_TIME_SHARE = 0.1
"""Drawing may take this share of the kernel's time: many ranks are looked at less often."""

LONGEST_PAUSE_S = 0.4
"""But no look is put off longer: less than the time between two batches of steps of a rank, of which
each is to be on the screen before the next (`train.recording.step_clock.SLOWEST_S`)."""

LONGEST_S = 0.7
"""A run is looked at this often at least, whether all ranks have sent steps or not."""


def outcome_of(view: dict[str, Any]) -> dict[str, Any]:
    """Return what a list of runs shows of one that has ended."""
    training = view["training"]
    return {
        "steps": view["run"]["steps"],
        "step_ms": view["rates"]["step_ms"],
        "samples_per_s": view["rates"]["samples_per_s"],
        "values": training["values"] if training else {},
        "verdict": view["verdict"]["sentence"],
        "kind": view["verdict"]["kind"],
    }


def _named(began: RunBegan) -> RunBegan:
    """Put the notebook's name before that of a run which the user gave none."""
    notebook = Path(os.environ.get("JPY_SESSION_NAME", "")).stem
    if not began.meta.get("unnamed") or not notebook:
        return began
    return replace(began, name=f"{notebook} / {began.name}")


def _rank_in(pids: dict[int, int], usage: ResourceUsage) -> int | None:
    """Return which rank of a run this one is: a run on some ranks of a group counts its own."""
    if pids.get(usage.rank) == usage.pid:
        return usage.rank
    return next((rank for rank, pid in pids.items() if pid == usage.pid), None)


class RunRecorder:
    """Writes the messages of a session's ranks to run records below `root`.

    A record that cannot be written stops for good, since rows must not be missing from its middle;
    `books` reports it. Nothing here raises an `Exception`.
    """

    def __init__(self, root: Path, books: Bookkeeping | None = None) -> None:
        self.root = root
        self.records: list[RunRecord] = []
        self._books = books or messages.books  # which reports on stderr
        self._open: dict[str, RunRecord] = {}
        self._given_up: set[str] = set()
        self._live: dict[str, LiveView] = {}
        self._next_look: dict[str, float] = {}  # not earlier than this
        self._last_look: dict[str, float] = {}
        self._heard: dict[str, set[int]] = {}  # the ranks that have sent steps since
        self.facts: dict[str, Any] = {}
        """What is known of the group, and goes into the record of each of its runs."""
        self.trace: dict[str, str] | None = None
        """The latest trace in depth that was written: its ``file``, and what is in it in ``words``."""
        self._traces: dict[str, dict[int, ProfileTaken]] = {}
        self._locks: dict[str, RunLock] = {}
        self._next_vitals: dict[str, float] = {}
        self._pruned_at = -math.inf
        self._notices: list[str] = []

    def take(self, message: RunMessage) -> None:
        """Write `message` to its run's record; a rank's first word makes the record."""
        run = message.run
        if run in self._given_up:
            return
        written = False
        with self._books.doing(RECORD, self.root):
            self._write(message)
            written = True
        if not written:
            self._give_up(run)
        elif (live := self._live.get(run)) is not None and not isinstance(message, ProfileTaken):
            heard = False
            with self._books.doing(LEDGER):
                live.add_message(message)
                heard = True
            if not heard:
                del self._live[run]
            elif isinstance(message, StepsDone):
                self._heard.setdefault(run, set()).add(message.rank)

    def take_usage(self, usage: ResourceUsage) -> None:
        """Note how a rank is, for each run that it takes part in."""
        for run, record in self._open.items():
            rank = _rank_in(record.info.pids, usage)
            if run in self._live and rank is not None:
                with self._books.doing(LEDGER):
                    said = replace(usage, rank=rank)
                    self._live[run].vitals.add(time.time() - record.info.started, said)
                with self._books.doing(RECORD, self.root):
                    self._keep_vitals(run)

    def _keep_vitals(self, run: str, *, whole: bool = False) -> None:
        """Write how the ranks were, now and then and at the end."""
        now = time.monotonic()
        if run in self._live and (whole or now >= self._next_vitals.get(run, 0.0)):
            self._next_vitals[run] = now + VITALS_S
            self._open[run].keep_vitals(self._live[run].vitals)

    def traces_due(self, *, ended: bool = False) -> list[str]:
        """Write the traces in depth that all ranks have sent; return what is in each, in words.

        A trace waits for the rows of its steps. With `ended` the cell is over, and what
        some ranks have sent is all there is.
        """
        lines = []
        for run, taken in list(self._traces.items()):
            record, live = self._open[run], self._live.get(run)
            last = max(each.last for each in taken.values())
            whole = len(taken) == record.info.size and (live is None or live.steps > last)
            if whole or ended or record.info.state != "running":
                del self._traces[run]
                with self._books.doing(TRACE):
                    file, words = profile_merge.write(record, taken)
                    self.trace = {"file": str(file), "words": words}
                    lines.append(f"{words}\ntrace: {file}, for ui.perfetto.dev")
        return lines

    def notices_due(self) -> list[str]:
        """Return what the user should know beside the runs, each line once."""
        due, self._notices = self._notices, []
        return due

    def views_due(self, *, ended: bool = False) -> list[tuple[dict[str, Any], bool]]:
        """Return the views that are due to be shown, each with whether it is the last.

        With `ended` the cell is over: runs that nobody closed are lost, and every run
        is shown once more.
        """
        due = []
        for run, record in list(self._open.items()):
            if ended:
                with self._books.doing(RECORD, self.root):
                    record.close("lost")
            final = ended or record.info.state != "running"
            if run in self._live and (final or self._is_due(run, record)):
                with self._books.doing(LEDGER):
                    view = self._look(run)
                    due.append((view, final))
                    if final:
                        self._note_outcome(record, view)
            if final:
                self._forget(run)
        return due

    def _is_due(self, run: str, record: RunRecord) -> bool:
        """Return whether to look at a run: at once when all ranks have sent their steps.

        They send together, and a step is known only when the last of them has sent it.
        """
        now = time.monotonic()
        if now < self._next_look.get(run, 0.0):
            return False
        is_whole = self._heard.get(run, set()) >= set(record.ranks)
        return is_whole or now - self._last_look.get(run, 0.0) >= LONGEST_S

    def _note_outcome(self, record: RunRecord, view: dict[str, Any]) -> None:
        """Write what a list of runs shows into the record, so that it need not read the rows."""
        with self._books.doing(RECORD, self.root):
            if view["vitals"] is not None:
                self._keep_vitals(record.info.run, whole=True)
            record.note(outcome=outcome_of(view))
            view_cache.keep(record, SCHEMA, view)

    def _write(self, message: RunMessage) -> None:
        record = self._open.get(message.run)
        if record is None:
            if not isinstance(message, RunBegan):
                return  # a run that was given up; its rank does not know yet
            message = _named(message)
            record = RunRecord.create(self.root, message)
            record.info.meta.update(self.facts)
            if message.size > 1:
                alone = one_rank.find(self.root, message.meta, message.host)
                record.info.meta.update({one_rank.META: alone} if alone else {})
            self._open[message.run] = record
            self._locks[message.run] = RunLock(record.path)
            self._prune()
            self._live[message.run] = LiveView(record)
            self.records.append(record)
        if isinstance(message, ProfileTaken):
            self._traces.setdefault(message.run, {})[message.rank] = message
            return
        record.add(message)

    def _give_up(self, run: str) -> None:
        """Let go of a run that cannot be recorded; a reader of it sees that rows are missing."""
        self._given_up.add(run)
        if (record := self._open.get(run)) is not None:
            with self._books.doing(RECORD, self.root):
                record.close("lost")
        self._forget(run)

    def _forget(self, run: str) -> None:
        for known in (
            self._open, self._live, self._traces, self._next_look, self._last_look, self._heard, self._next_vitals,
        ):  # fmt: skip
            known.pop(run, None)
        if (lock := self._locks.pop(run, None)) is not None:
            lock.release()

    def _prune(self) -> None:
        """Remove records beyond the limits, now and then, while the cell goes on."""
        now = time.monotonic()
        if now - self._pruned_at < PRUNE_EVERY_S:
            return
        self._pruned_at = now

        def work() -> None:
            with self._books.doing(PRUNING, self.root):
                if line := prune(self.root, limits()):
                    self._notices.append(line)

        threading.Thread(target=work, name="eai-prune", daemon=True).start()

    def _look(self, run: str) -> dict[str, Any]:
        began = self._last_look[run] = time.monotonic()
        self._heard.pop(run, None)
        view = self._live[run].look()
        ended = time.monotonic()
        pause = max(REFRESH_S, (ended - began) / VIEW_TIME_SHARE)
        self._next_look[run] = ended + min(pause, LONGEST_PAUSE_S)
        return view
