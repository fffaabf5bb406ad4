"""Patience with ranks: it counts what they could do, not the clock of a busy machine."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from paths import RANKS
from waiting import press_stop_when

from eai_notebook.errors import EaiError
from eai_notebook.session import RankError, Session, cell_supervisor, stall_detector
from eai_notebook.session.cell import TelemetryCame
from eai_notebook.session.cell_supervisor import CellSupervisor
from eai_notebook.session.own_time import SLOWEST, OwnTime
from eai_notebook.session.rank_errors import Reply
from eai_notebook.session.stall_detector import StallWatch
from eai_notebook.telemetry.messages import CellEnding, ResourceUsage, StackLocation

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import PreloadedRanks


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.time = 100.0

    def __call__(self) -> float:
        return self.time


class Accounts:
    """The scheduler's accounts of one process with one thread, below a folder like /proc."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._file = folder / "7" / "task" / "7" / "schedstat"
        self._file.parent.mkdir(parents=True)
        self._clock = clock
        self._waited = 0.0
        self.go(0.0)

    def go(self, seconds: float, *, kept_waiting: float = 0.0) -> None:
        """Let time pass, of which the thread waited for a processor so many seconds."""
        self._clock.time += seconds
        self._waited += kept_waiting
        self._file.write_text(f"0 {int(self._waited * 1e9)} 1\n")


def test_what_a_rank_waits_for_a_processor_does_not_count(tmp_path: Path) -> None:
    clock = Clock()
    accounts = Accounts(tmp_path, clock)
    own = OwnTime([7], clock, tmp_path)
    accounts.go(2.0)
    assert own.now() == pytest.approx(2.0)
    accounts.go(10.0, kept_waiting=9.0)
    assert own.now() == pytest.approx(3.0)
    accounts.go(10.0, kept_waiting=10.0)  # but nothing waits without end
    assert own.now() == pytest.approx(3.0 + 10 * SLOWEST)


def test_without_an_account_the_wall_clock_counts(tmp_path: Path) -> None:
    clock = Clock()
    own = OwnTime([1234567], clock, tmp_path)
    clock.time += 5.0
    assert own.now() == 5.0


class Waiting:
    """Stands for a group and a cell on two ranks; rank 1 may not have answered."""

    def __init__(self) -> None:
        self.replies: dict[int, Reply] = {}
        self.ranks = [0, 1]
        self.lost: list[int] = []
        self.joining: set[int] = set()
        self.local_pids: list[int] = []
        self.signalled: list[list[int]] = []
        self.is_alive, self.is_over = True, False

    @property
    def unfinished(self) -> list[int]:
        return [rank for rank in self.ranks if rank not in self.replies]

    @property
    def failed(self) -> bool:
        return any(reply.failed for reply in self.replies.values())

    @property
    def waits_for_newcomers(self) -> bool:
        return bool(self.unfinished) and set(self.unfinished) <= self.joining

    def interrupt(self, ranks: list[int]) -> None:
        self.signalled.append(list(ranks))

    def ask_where(self, ranks: list[int]) -> None: ...


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(cell_supervisor, "OwnTime", lambda pids: OwnTime(pids, clock))
    return clock


def make_course(both: Any) -> CellSupervisor:
    return CellSupervisor(both, both, lambda _words: None, 60.0)


def test_a_rank_that_does_nothing_with_its_time_is_left_behind(clock: Clock) -> None:
    both = Waiting()
    followed = make_course(both)
    followed.interrupt()
    assert followed.look() is None
    clock.time += cell_supervisor.ABANDON_AFTER_S + 0.1
    assert followed.look() == "interrupted"


def test_a_newcomer_that_comes_too_late_is_interrupted(clock: Clock) -> None:
    both = Waiting()
    both.joining = {1}
    followed = make_course(both)
    assert followed.look() is None
    assert not both.signalled  # rank 0 still trains
    both.replies[0] = Reply(0, "here", 0.0)
    followed.look()
    followed.look()
    assert both.signalled == [[1]]
    clock.time += cell_supervisor.REPEAT_INTERRUPT_S + 0.1
    followed.look()
    assert both.signalled == [[1], [1]]


def test_a_rank_that_formats_its_error_is_waited_for_and_not_signalled_again(clock: Clock) -> None:
    both = Waiting()
    both.replies[0] = Reply(0, "here", 0.0, "ValueError", "row 7")
    followed = make_course(both)
    assert followed.look() is None
    followed.record_activity(TelemetryCame(CellEnding(1)))
    clock.time += cell_supervisor.RELEASE_S + 0.1
    followed.look()
    clock.time += cell_supervisor.ABANDON_AFTER_S
    assert followed.look() is None
    assert not any(both.signalled)
    clock.time += cell_supervisor.ENDING_S
    assert followed.look() == "ended"


def place(rank: int, exchange: str, exchanges: int) -> StackLocation:
    return StackLocation(rank, 2, "x", "f", exchange=exchange, exchanges=exchanges)


def stalled(watch: StallWatch, clock: Clock, answers: Iterator[list[StackLocation]]) -> str | None:
    for these in answers:
        clock.time += 1.0
        if (found := watch.look([0, 1])) is not None:
            return str(found)
        for each in these:
            watch.record_activity(each)
    return None


def test_ranks_that_wait_for_different_exchanges_are_named_with_the_seconds() -> None:
    clock = Clock()
    watch = StallWatch([0, 1], lambda _ranks: None, 60.0, clock)
    both = [place(0, "barrier", 3), place(1, "allreduce", 2)]
    said = stalled(watch, clock, iter([both] * 20))
    assert said is not None
    assert "rank 0 waits in barrier" in said
    assert f"no rank has moved for {stall_detector.SURE_S:.0f} s" in said


def test_ranks_that_go_on_from_exchange_to_exchange_are_left_alone() -> None:
    """Two quick exchanges in turn: each rank is seen in another one, though both move."""
    clock = Clock()
    watch = StallWatch([0, 1], lambda _ranks: None, 60.0, clock)
    moving = ([place(0, "barrier", 2 * n), place(1, "allreduce", 2 * n + 1)] for n in range(60))
    assert stalled(watch, clock, moving) is None


def test_a_peer_that_ends_is_progress_of_those_that_waited_for_it() -> None:
    clock = Clock()
    watch = StallWatch([0, 1], lambda _ranks: None, 60.0, clock)
    asleep = StackLocation(0, 2, "x", "time.sleep")
    assert stalled(watch, clock, iter([[asleep, place(1, "barrier", 1)]] * 12)) is None
    clock.time += 0.1
    assert watch.look([1]) is None  # rank 1 has been in the barrier for long, and is leaving it


def test_a_rank_that_does_not_get_to_answer_is_not_waiting() -> None:
    clock = Clock()
    watch = StallWatch([0, 1], lambda _ranks: None, 60.0, clock)
    once = [[place(0, "barrier", 3), place(1, "allreduce", 2)]]
    alone = [[place(0, "barrier", 3)]] * 30
    assert stalled(watch, clock, iter([*once, *alone])) is None


def test_a_pulse_is_no_sign_of_a_cell(clock: Clock) -> None:
    del clock
    both = Waiting()
    followed = make_course(both)
    followed._stall = SimpleNamespace(heard=pytest.fail)  # type: ignore[assignment]
    followed.record_activity(TelemetryCame(ResourceUsage(0, None, None, [])))


DEEP = """
import sys
sys.setrecursionlimit(20_000)
def dive(depth):
    return dive(depth + 1)
kept = 7
dive(0)
"""
HELD = (RANKS / "held_in_c.py").read_text()


@pytest.mark.ranks
@pytest.mark.slow
def test_a_group_is_not_ended_for_a_rank_that_does_not_listen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, preloaded_ranks: PreloadedRanks
) -> None:
    flag = tmp_path / "flag"
    with preloaded_ranks(), Session(2) as session:
        session.push(flag=str(flag))
        last = f"line {len(HELD.splitlines())}: "
        pressing = press_stop_when(lambda: last in session.where())
        with pytest.raises(KeyboardInterrupt, match="rank 1 did not listen"):
            session.run(HELD)
        pressing.join()
        monkeypatch.setattr(cell_supervisor, "GIVE_UP_S", 0.5)
        with pytest.raises(EaiError, match="nothing is lost"):
            session.run("print('next')")
        assert session.state == "up"
        monkeypatch.undo()
        flag.touch()
        session.run("collective.barrier()")
        assert session.pull("kept", rank=1) == 7
        with pytest.raises(RankError) as caught:
            session.run(DEEP)
        assert caught.value.ename == "RecursionError"
        assert session.pull("kept", rank=1) == 7
