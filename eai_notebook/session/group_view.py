"""`GroupView`: the state of a session's group, as observers and the panel are shown it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from eai_notebook.session import start_times
from eai_notebook.session.live_diff import LiveDiff
from eai_notebook.session.rank_sets import count_ranks
from eai_notebook.session.rank_status import RankStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from eai_notebook.session.guarded_watcher import GuardedWatcher


class GroupView:
    """What is shown of a group of `size` ranks at `place`; each change is passed to `watcher`.

    ``state`` is one of down, starting, up, busy, stopping and lost. ``hosts`` and ``pids`` are those
    of each rank, empty until the ranks have reported.
    """

    def __init__(
        self,
        size: int,
        place: str,
        watcher: GuardedWatcher,
        latest_trace: Callable[[], dict[str, str] | None],
    ) -> None:
        self.state = "down"
        self.hosts: dict[int, str] = {}
        self.pids: dict[int, int] = {}
        self.pulse = RankStatus()
        self.diff = LiveDiff()
        self.is_loading = False
        self.gone: set[int] = set()
        self._cell_ranks: set[int] = set()
        self._size = size
        self._place = place
        self._watcher = watcher
        self._latest_trace = latest_trace
        self._message = ""
        self._step = ""
        self._since = time.time()

    def set_state(self, state: str, words: str = "") -> None:
        """Change the state; `words` replace the usual ones for it."""
        self.state = state
        self._since = time.time()
        self._message = words
        self.show()

    def begin_cell(self, ranks: Iterable[int]) -> None:
        """Note that a cell begins on some ranks, or on all."""
        self._cell_ranks = set(ranks)
        self.pulse.begin_cell()
        self.set_state("busy")

    def show(self) -> None:
        """Pass the view on as it is now."""
        self._watcher.group_from(self.model)

    def begin_start(self) -> None:
        """Note that a start begins."""
        self._step = ""
        self.set_state("starting")

    def progress(self, words: str) -> None:
        """Show the step that a start has come to, in the cell and in the panel."""
        self._watcher.progress(words)
        if words != self._step:
            self._step = words
            self.show()

    def note_ranks(self, found: list[dict[str, Any]]) -> None:
        """Note the ``rank``, ``host`` and ``pid`` that each rank has reported."""
        self.hosts = {info["rank"]: info["host"] for info in found}
        self.pids = {info["rank"]: info["pid"] for info in found}

    def note_gone(self, ranks: Iterable[int]) -> None:
        """Note the ranks of an elastic group that have died."""
        self.gone = set(ranks)
        self.show()

    def note_joined(self, info: dict[str, Any]) -> None:
        """Note the ``rank``, ``host`` and ``pid`` of a rank that has come in while the group runs."""
        rank = info["rank"]
        self._cell_ranks.add(rank)
        self._size = max(self._size, rank + 1)
        self.gone.discard(rank)
        self.hosts[rank], self.pids[rank] = info["host"], info["pid"]
        self.show()

    def forget_ranks(self) -> None:
        """Forget the ranks of a group that is gone."""
        self.hosts, self.pids, self.is_loading = {}, {}, False
        self.gone = set()
        self.pulse.forget()

    def note_start_time(self, phase: str, seconds: float | None = None) -> None:
        """Keep how long a ``start`` or ``load`` took; by default since the state changed."""
        start_times.note(
            self._kind(phase), time.time() - self._since if seconds is None else seconds
        )

    def _kind(self, phase: str) -> str:
        """Return which starts take about as long as this one: by ranks and place."""
        return f"{phase} of {self._size} on {self._place}"

    @property
    def words(self) -> str:
        """The state in words."""
        if self._message:
            return self._message
        live = self._size - len(self.gone)
        working = len(self._cell_ranks - self.gone)
        gone = f", {len(self.gone)} gone" if self.gone else ""
        return {
            "down": "no group is running",
            "starting": f"{count_ranks(self._size)} starting",
            "up": f"{count_ranks(live)} up{gone}",
            "busy": f"a cell is running on {count_ranks(working)}{gone}",
            "stopping": "the group is stopping",
        }.get(self.state, self.state)

    def model(self) -> dict[str, Any]:
        """Return the panel's group model."""
        phase = {"starting": "start", "up": "load"}.get(self.state) if not self.hosts else None
        return {
            "state": self.state,
            "size": self._size,
            "message": self.words,
            "ranks": self._ranks(),
            "since": self._since,
            "loading": self.state == "up" and not self.hosts,
            "trace": self._latest_trace(),
            "diff": self.diff.latest,
            "step": self._step if self.state == "starting" else "",
            "usual_s": start_times.usual(self._kind(phase)) if phase else None,
        }

    def _ranks(self) -> list[dict[str, Any]]:
        if self.is_loading and not self.hosts:
            return [
                {"rank": rank, "host": "", "pid": None, "state": "loading"}
                for rank in range(self._size)
            ]
        return [
            {
                "rank": rank,
                "host": self.hosts[rank],
                "pid": self.pids[rank],
                "state": self._state_of(rank),
                **self.pulse.of(rank),
            }
            for rank in sorted(self.hosts)
        ]

    def _state_of(self, rank: int) -> str:
        if rank in self.gone:
            return "gone"
        return "idle" if self.state == "busy" and rank not in self._cell_ranks else self.state
