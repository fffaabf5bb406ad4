"""The run record: a folder that is written while a run goes on.

A run outlives its notebook tab, its kernel and the program that drew it, so every row
goes to disk as it comes. ``run.json`` says what the run is; ``rank-<r>.steps`` holds
that rank's rows of `STEP_DTYPE`, appended and never rewritten, so a run that was cut
off can be read up to its last whole row. ``training.jsonl`` has a line for each time that
a rank reported its loss and metrics; ``vitals.json`` is how the ranks were over time. ``labels.json`` is what the user has said of the run since:
a file of its own, since the run may go on, and its session writes ``run.json``.
"""

from __future__ import annotations

import errno
import json
import os
import re
import time
from bisect import bisect_left
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eai_notebook.errors import EaiError
from eai_notebook.files import read_bounded, read_json
from eai_notebook.ledger.step_schema import (
    FIRST_FORMAT,
    STEP_DTYPE,
    as_steps,
    columns_as_json,
    columns_from_json,
)
from eai_notebook.ledger.syncing import syncer
from eai_notebook.ledger.training_lines import from_lines, to_line
from eai_notebook.ledger.vitals_curve import VitalsCurve
from eai_notebook.telemetry.messages import (
    RunBegan,
    RunEnded,
    RunMessage,
    StepsDone,
    TrainingProgress,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

FORMAT = 2
"""Version of a record: 1 is read, too; a newer one is refused."""
_INFO = "run.json"
_TRAINING = "training.jsonl"
_LABELS = "labels.json"
_VITALS = "vitals.json"
GONE = "gone_ranks"
"""The entry of `meta` that names the ranks whose death has ended this run, and no training."""
_OUTCOMES = ("done", "interrupted", "failed")  # from best to worst: a run is as good as its worst


def runs_folder() -> Path:
    """Return where this process keeps its run records.

    ``EAI_RUNS`` names the folder; without it, it is ``.eai/runs`` below the working
    folder, so that a project's runs lie beside its notebooks.
    """
    return Path(os.environ.get("EAI_RUNS") or Path.cwd() / ".eai" / "runs")


_MOST_RANKS = 1_000_000
_KEYED_BY_RANK: dict[str, tuple[type, ...]] = {
    "hosts": (str,),
    "pids": (int,),
    "clock_offset": (int, float),
    "clock_uncertainty": (int, float),
    "outcomes": (str,),
    "measuring": (int, float),
    "input": (dict,),
    "named": (dict,),
    "cores": (dict,),
}
_FIELDS: dict[str, tuple[type, ...]] = {
    "run": (str,),
    "name": (str,),
    "size": (int,),
    "started": (int, float),
    "ended": (int, float, type(None)),
    "state": (str,),
    "meta": (dict,),
}
_META: dict[str, tuple[type, ...]] = {
    "link_bytes_per_s": (int, float),
    "link_message_s": (int, float),
    "outcome": (dict,),
}


def _check(name: str, values: Iterable[Any], kinds: tuple[type, ...]) -> None:
    """Raise unless `values` are of `kinds`: a record may be somebody else's."""
    for value in values:
        if not isinstance(value, kinds) or isinstance(value, bool):
            message = f"{name} is {str(value)[:40]!r}"
            raise TypeError(message)


@dataclass
class RunInfo:
    """What a run is, apart from its rows; the dictionaries are keyed by rank.

    ``state`` is ``"running"``, ``"done"``, ``"failed"``, ``"interrupted"`` or ``"lost"``
    (a rank left without saying so). ``started`` and ``ended`` are seconds since the epoch.
    Offsets and uncertainties are in seconds, to be added to a rank's clock to get rank 0's;
    ``measuring`` is seconds spent measuring, ``input`` what its steps waited for in the input, ``named`` what its callbacks and other
    things with a name took, in seconds by name, ``cores`` how its process got processors, see
    `cores.Use`.
    """

    run: str
    name: str
    size: int
    started: float
    ended: float | None = None
    state: str = "running"
    hosts: dict[int, str] = field(default_factory=dict)
    pids: dict[int, int] = field(default_factory=dict)
    clock_offset: dict[int, float] = field(default_factory=dict)
    clock_uncertainty: dict[int, float] = field(default_factory=dict)
    outcomes: dict[int, str] = field(default_factory=dict)
    measuring: dict[int, float] = field(default_factory=dict)
    input: dict[int, dict[str, float]] = field(default_factory=dict)
    named: dict[int, dict[str, float]] = field(default_factory=dict)
    cores: dict[int, dict[str, float]] = field(default_factory=dict)
    meta: dict[str, Any] = field(default_factory=dict)
    format: int = FORMAT
    columns: list[list[str]] = field(default_factory=columns_as_json)
    """Name and type of each column of the rows, as NumPy writes types."""

    def to_json(self) -> str:
        """Return the text of ``run.json``."""
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> RunInfo:
        """Read what ``run.json`` holds; JSON keys are text, ranks are numbers again."""
        known = raw.get("format")
        if known not in range(1, FORMAT + 1):
            message = f"its format {known!r} is not one that this version reads"
            raise ValueError(message)
        if known == 1:
            raw["columns"] = columns_as_json(FIRST_FORMAT)
        columns_from_json(raw.get("columns"))
        for name, kinds in _KEYED_BY_RANK.items():
            raw[name] = {int(rank): value for rank, value in raw.get(name, {}).items()}
            _check(name, raw[name].values(), kinds)
        for name, kinds in _FIELDS.items():
            if name in raw:
                _check(name, [raw[name]], kinds)
        for name, kinds in _META.items():
            if name in raw.get("meta", {}):
                _check(name, [raw["meta"][name]], kinds)
        for each in raw["input"].values():
            _check("input", each.values(), (int, float))
        if not 0 < raw["size"] <= _MOST_RANKS:
            message = f"size is {raw['size']}"
            raise ValueError(message)
        return cls(**raw)

    def unknown_columns(self) -> list[str]:
        """Return the columns of the rows that nothing here reads, as of a part not installed."""
        known = STEP_DTYPE.names or ()
        return [name for name, _ in self.columns if name not in known]


class RunRecord:
    """One run on disk: open it to read, or `create` it and `add` messages to write.

    Examples:
        >>> import tempfile
        >>> from eai_notebook.telemetry.messages import RunBegan, StepsDone
        >>> from eai_notebook.ledger.step_schema import empty_steps
        >>> folder = Path(tempfile.mkdtemp())
        >>> record = RunRecord.create(folder, RunBegan("r1", 0, 1, "fit", "here", 1))
        >>> record.add(StepsDone("r1", 0, empty_steps(3)))
        >>> len(RunRecord(record.path).rows(0))
        3
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        try:
            self.info = RunInfo.from_json(read_json(self.path / _INFO))
            self._check_files()
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            what = f"{self.path} is not a run record ({error})"
            raise EaiError(
                what, "name a folder below .eai/runs", code="run-record-invalid"
            ) from error
        self.info.name = str(self.labels().get("name") or self.info.name)

    @classmethod
    def create(cls, root: Path, began: RunBegan) -> RunRecord:
        """Make the folder for a run that a rank just announced."""
        now = time.time()
        stamp = (
            time.strftime("%Y%m%d-%H%M%S", time.localtime(now)) + f".{int(now * 1e3) % 1000:03d}"
        )
        word = re.sub(r"[^A-Za-z0-9_]+", "-", began.name).strip("-") or "run"
        path = root / f"{stamp}-{word}-{began.run[-8:]}"
        path.mkdir(parents=True, exist_ok=True)
        info = RunInfo(run=began.run, name=began.name, size=began.size, started=now)
        _write_atomically(path / _INFO, info.to_json())
        return cls(path)

    @property
    def ranks(self) -> list[int]:
        """The ranks that have announced themselves so far, in order."""
        return sorted(self.info.hosts)

    def add(self, message: RunMessage) -> None:
        """Write what a rank said; raises `OSError` if the disk refuses."""
        if isinstance(message, StepsDone):
            # A rank may have columns of a part that is not installed here.
            rows = np.ascontiguousarray(as_steps(message.rows, self._row))
            _append(self._steps(message.rank), rows.tobytes(), self._row.itemsize)
            self._note_known(message)
            return
        if isinstance(message, TrainingProgress):
            _append_line(self.path / _TRAINING, to_line(message).encode())
            return
        if isinstance(message, RunBegan):
            self._note_begin(message)
        elif isinstance(message, RunEnded):
            self._note_end(message)
        else:  # a trace has its own file, once all ranks have sent theirs
            return
        _write_atomically(self.path / _INFO, self.info.to_json())

    def close(self, state: str) -> None:
        """End a run whose ranks can no longer end it themselves."""
        if self.info.state == "running":
            self.info.state, self.info.ended = state, time.time()
            _write_atomically(self.path / _INFO, self.info.to_json())

    def rows(self, rank: int, start: int = 0, count: int | None = None) -> np.ndarray:
        """Return a rank's rows of `STEP_DTYPE` from row `start` on, `count` of them at most.

        A half-written row is left.
        """
        there = self.count(rank) - start
        if there <= 0:
            return np.empty(0, STEP_DTYPE)
        wanted = there if count is None else min(count, there)
        kind = self._row
        rows = np.fromfile(self._steps(rank), kind, wanted, offset=start * kind.itemsize)
        return as_steps(rows)

    def find(self, rank: int, first: int, stop: int) -> tuple[int, int]:
        """Return the rows of a rank that have the steps from `first` up to but without `stop`.

        As the first row and the row after the last one, for `rows`.
        """
        if self.count(rank) == 0:
            return 0, 0
        # Steps grow from row to row; of a long run only the pages that are looked at are read.
        shape = (self.count(rank),)
        steps = np.memmap(self._steps(rank), self._row, "r", shape=shape)["step"]
        low, high = (bisect_left(steps, step) for step in (first, stop))
        return low, high

    def training(self, start: int = 0) -> tuple[list[TrainingProgress], int]:
        """Return the ranks' reports of their training from byte `start` on, and their end.

        A half-written line is left.
        """
        path = self.path / _TRAINING
        if not path.exists():
            return [], start
        with path.open("rb") as lines:
            lines.seek(start)
            text, _, _ = lines.read().rpartition(b"\n")
        read = len(text) + 1 if text else 0
        return from_lines(self.info.run, text.decode(errors="replace")), start + read

    def vitals(self) -> VitalsCurve:
        """Return how the ranks were over the time of the run; empty where nothing is known."""
        try:
            return VitalsCurve.from_json(read_bounded(self.path / _VITALS))
        except (OSError, ValueError):
            return VitalsCurve()

    def keep_vitals(self, curve: VitalsCurve) -> None:
        """Write how the ranks were so far; for the session that records the run alone."""
        draft = self.path / f"{_VITALS}.tmp"
        draft.write_text(curve.to_json())
        draft.replace(self.path / _VITALS)  # not worth a wait for the disk

    def labels(self) -> dict[str, Any]:
        """Return what the user has said of the run: ``name``, ``starred``, ``note``, ``tags``."""
        try:
            labels = read_json(self.path / _LABELS)
        except (OSError, ValueError):
            return {}
        return labels if isinstance(labels, dict) else {}

    def label(self, **labels: Any) -> None:
        """Give the run another ``name`` (its folder stays), a ``note``, or other labels."""
        _write_atomically(self.path / _LABELS, json.dumps(self.labels() | labels))
        self.info.name = labels.get("name", self.info.name)

    def note(self, **facts: Any) -> None:
        """Write facts into the run's ``meta``; for the session that records it alone."""
        self.info.meta.update(facts)
        _write_atomically(self.path / _INFO, self.info.to_json())

    def count(self, rank: int) -> int:
        """Return how many whole rows of a rank are on disk.

        Zeros at the end are none: after a power cut a file may have its new length, but not yet
        what was written there.
        """
        path = self._steps(rank)
        if not path.exists():
            return 0
        with path.open("rb", buffering=0) as steps:
            return _written(steps.fileno(), self._row.itemsize)

    @cached_property
    def _row(self) -> np.dtype[Any]:
        return columns_from_json(self.info.columns)

    def _steps(self, rank: int) -> Path:
        return self.path / f"rank-{rank}.steps"

    def _check_files(self) -> None:
        """Raise unless what is to be read is files: a pipe would be waited for without end."""
        for path in (self.path / _TRAINING, *map(self._steps, self.info.hosts)):
            if path.exists() and not path.is_file():
                message = f"{path.name} is no file"
                raise ValueError(message)

    def _note_begin(self, began: RunBegan) -> None:
        info, rank = self.info, began.rank
        info.hosts[rank] = began.host
        info.pids[rank] = began.pid
        info.clock_offset[rank] = began.clock_offset
        info.clock_uncertainty[rank] = began.clock_uncertainty
        info.meta.update(began.meta)

    def _note_known(self, message: StepsDone | RunEnded) -> None:
        """Keep what is known besides the rows; it is written with the next change of state."""
        if message.named:
            self.info.named[message.rank] = message.named
        if message.cores:
            self.info.cores[message.rank] = message.cores

    def _note_end(self, ended: RunEnded) -> None:
        info = self.info
        info.outcomes[ended.rank] = ended.outcome
        info.measuring[ended.rank] = ended.measuring
        if ended.input:
            info.input[ended.rank] = ended.input
        self._note_known(ended)
        info.meta.update(ended.notes)
        gone = set(info.meta.get(GONE, ()))
        if len(info.outcomes.keys() | gone) >= info.size:
            info.state = max(info.outcomes.values(), key=_OUTCOMES.index)
            info.ended = time.time()


def list_runs(root: Path | None = None) -> list[Path]:
    """Return the record folders below `root` (default `runs_folder()`), newest first."""
    root = runs_folder() if root is None else root
    if not root.is_dir():
        return []
    return sorted((path.parent for path in root.glob(f"*/{_INFO}")), reverse=True)


def _written(file: int, size: int) -> int:
    """Return how many rows of `size` bytes an open file has before the zeros at its end."""
    rows = os.fstat(file).st_size // size
    at_once = 1  # (mostly the last row is one)
    while rows:
        begin = max(0, rows - at_once)
        last = np.frombuffer(os.pread(file, (rows - begin) * size, begin * size), np.uint8)
        if last.any():
            return begin + int(np.flatnonzero(last)[-1]) // size + 1
        rows, at_once = begin, 4096
    return 0


def _append(path: Path, rows: bytes, size: int) -> None:
    """Append rows of `size` bytes after whole rows.

    A part of one, of a crash or a full disk, is cut off.
    """
    with path.open("ab", buffering=0) as steps:
        whole = steps.seek(0, os.SEEK_END) // size * size
        steps.truncate(whole)
        try:
            written = steps.write(rows)
        except OSError:
            steps.truncate(whole)
            raise
        if written != len(rows):
            steps.truncate(whole)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    syncer.soon(path)


def _append_line(path: Path, line: bytes) -> None:
    """Append a line; after a part of one, of a crash or a full disk, it begins anew."""
    with path.open("a+b", buffering=0) as lines:
        end = lines.seek(0, os.SEEK_END)
        if end and os.pread(lines.fileno(), 1, end - 1) != b"\n":
            line = b"\n" + line
        if lines.write(line) != len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    syncer.soon(path)


def _write_atomically(path: Path, text: str) -> None:
    """Replace `path` in one move, so that neither a reader nor a power cut sees half of it.

    What takes the name must be on the disk before: without it, all rows of the run are nothing.
    """
    draft = path.with_suffix(".tmp")
    with draft.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    syncer.soon(path.parent)
