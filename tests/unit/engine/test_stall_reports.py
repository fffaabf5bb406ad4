"""Horovod's reports of missing tensors: read off stderr, and what the watch makes of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from eai_notebook.collective.backends.horovod_reports import ReportReader
from eai_notebook.engine import stall_reports
from eai_notebook.session import stall_detector
from eai_notebook.session.stall_detector import StallWatch
from eai_notebook.telemetry import messages
from eai_notebook.telemetry.messages import StackLocation, TensorsMissing

if TYPE_CHECKING:
    from collections.abc import Iterator

REPORT = (
    "[2026-11-30 20:24:16.8: W /x/horovod/common/stall_inspector.cc:107] One or more tensors were "
    "submitted to be reduced by subset of ranks and are waiting for more than 10 seconds. \n"
    "Missing ranks:\n0: [eai.b, eai.b]\n1: [cond/eai.a]\n"
)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[messages.Message]]:
    found: list[messages.Message] = []
    monkeypatch.setattr(stall_reports, "members", lambda: (2, 5))
    before = messages.set_sink(found.extend)
    yield found
    messages.set_sink(before)


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_report_is_taken_out_of_stderr_however_it_comes(
    sent: list[messages.Message], size: int
) -> None:
    reader = ReportReader(stall_reports.send)
    whole = f"[before] a line\n{REPORT}after\nno end"
    shown = "".join(reader.feed(whole[at : at + size]) for at in range(0, len(whole), size))
    shown += reader.pause()
    assert shown == "[before] a line\nafter\nno end"
    assert sent == [TensorsMissing((2, 5), {2: ("`eai.b`",), 5: ("`cond/eai.a`",)})]


def test_a_report_at_the_end_is_sent_when_nothing_more_comes(
    sent: list[messages.Message],
) -> None:
    reader = ReportReader(stall_reports.send)
    assert reader.feed(REPORT) == ""
    assert (sent, reader.waits) == ([], True)
    assert (reader.pause(), reader.waits) == ("", False)
    assert len(sent) == 1


def test_other_text_is_not_kept_back() -> None:
    reader = ReportReader(stall_reports.send)
    assert reader.feed("working... ") == "working... "
    assert reader.feed("done\n[") == "done\n"
    assert reader.pause() == "["


class Clock:
    """Time as a test wants it."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def in_run(rank: int, steps: int, exchange: str | None = None) -> list[messages.Message]:
    """Return what a rank says when it takes part in a run and has taken so many steps."""
    began = messages.RunBegan("run", rank, 2, "fit", "host", 1)
    there = StackLocation(rank, 3, "fit", "f", exchange, compiled=exchange is None, steps=steps)
    return [began, there]


@pytest.mark.parametrize(
    ("steps", "is_over"), [((3, 3), True), ((3, 4), True), ((4, 3), False), ((3, 2), False)]
)
@pytest.mark.parametrize("has_ended", [False, True])
def test_a_step_that_a_peer_has_left_before_is_ended_without_patience(
    clock: Clock, steps: tuple[int, int], *, is_over: bool, has_ended: bool
) -> None:
    """Rank 0 is out of data after its steps; rank 1 is in a step that may only be slow, or not."""
    watch = watching(clock, 3600.0)
    left, goes_on = in_run(0, steps[0], "allreduce"), in_run(1, steps[1])
    for message in left[:1] + goes_on[:1]:
        watch.record_activity(message)
    watch.record_activity(left[1])
    found = None
    for _ in range(30):
        clock.now += 1.0
        for where in goes_on[1:] if has_ended else [left[1], goes_on[1]]:
            watch.record_activity(where)
        found = watch.look([1] if has_ended else [0, 1]) or found
    assert found is not None
    assert found.is_over is is_over


def test_ranks_of_different_runs_do_not_wait_for_each_other_s_steps(clock: Clock) -> None:
    watch = watching(clock, 3600.0)
    alone = messages.RunBegan("own", 1, 1, "fit", "host", 1)
    for message in (*in_run(0, 3, "barrier")[:1], alone):
        watch.record_activity(message)
    for _ in range(30):
        clock.now += 1.0
        watch.record_activity(in_run(0, 3, "barrier")[1])
        watch.record_activity(in_run(1, 5)[1])
        found = watch.look([0, 1])
    assert found is not None
    assert not found.is_over


def where(rank: int) -> StackLocation:
    return StackLocation(rank, 3, "step(x)", "tensorflow", compiled=True)


def watching(clock: Clock, patience: float) -> StallWatch:
    return StallWatch([0, 1], lambda _: None, patience=patience, now=clock.monotonic)


def looked(watch: StallWatch, clock: Clock, unfinished: list[int], seconds: int) -> str:
    """Return what the watch says of ranks that answer each second, always the same."""
    said = ""
    for _ in range(seconds):
        clock.now += 1.0
        for rank in unfinished:
            watch.record_activity(where(rank))
        found = watch.look(unfinished)
        said = found.why if found else said
    return said


def test_ranks_that_wait_for_different_tensors_are_named(clock: Clock) -> None:
    watch = watching(clock, 10.0)
    for rank in (0, 1):
        watch.record_activity(where(rank))
    assert looked(watch, clock, [0, 1], 10) == ""
    watch.record_activity(
        TensorsMissing((0, 1), {0: ("the gradient of `b`",), 1: ("the gradient of `a`",)})
    )
    said = looked(watch, clock, [0, 1], 10)
    assert "rank 0 has not sent the gradient of `b`" in said
    assert "rank 1 has not sent the gradient of `a`" in said


def test_a_rank_whose_peer_has_left_is_named_without_a_run(clock: Clock) -> None:
    watch = watching(clock, 3600.0)
    watch.record_activity(where(1))
    clock.now += 5.0
    watch.record_activity(TensorsMissing((0, 1), {0: ("the gradient of `a`",)}))
    said = looked(watch, clock, [1], 10)
    assert "rank 0 ended the cell" in said
    assert "rank 0 has not sent the gradient of `a`" in said
    found = watch.look([1])
    assert found is not None
    assert found.is_over  # nobody will send it


def test_a_rank_that_is_only_slow_is_left_alone(clock: Clock) -> None:
    watch = watching(clock, 10.0)
    for rank in (0, 1):
        watch.record_activity(where(rank))
    clock.now += 5.0
    watch.record_activity(TensorsMissing((0, 1), {0: ("the gradient of `a`",)}))
    assert looked(watch, clock, [0, 1], 20) == ""  # rank 0 computes, and waits for nobody


def test_a_report_that_is_not_repeated_is_over(clock: Clock) -> None:
    watch = watching(clock, 1000.0)
    clock.now += 5.0
    watch.record_activity(TensorsMissing((0, 1), {0: ("`b`",), 1: ("`a`",)}))
    for rank in (0, 1):
        watch.record_activity(where(rank))
    assert looked(watch, clock, [0, 1], 10) != ""
    clock.now += stall_detector.REPORT_S
    assert looked(watch, clock, [0, 1], 5) == ""
