"""A variable is compared at the end of the same step on each rank."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from eai_notebook.engine import variable_digest
from eai_notebook.engine.step_digest import StepDigest
from eai_notebook.session.live_diff import LiveDiff
from eai_notebook.telemetry import messages
from eai_notebook.telemetry.messages import VariableDigested

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class Ranks:
    """Ranks of one process whose control channel is called at once; each has taken ``steps``."""

    def __init__(self, *steps: int | None) -> None:
        self.steps = list(steps)
        self.weights = [np.zeros(3) for _ in steps]
        self.sent: list[Any] = []
        self._digests = [StepDigest(rank) for rank in range(len(steps))]

    def ask_digest(
        self, ranks: Sequence[int], asked: dict[str, Any], _patience: float
    ) -> dict[int, dict[str, Any]]:
        for rank in ranks if "name" in asked else ():
            self._digests[rank].ask(asked["number"], asked["name"], asked.get("step"))
        return {rank: {"pace": self._pace(rank, asked)} for rank in ranks}

    def _pace(self, rank: int, asked: dict[str, Any]) -> tuple[int, int] | None:
        taken = self.steps[rank]
        return None if taken is None or "name" in asked else (taken, 2)

    def end_step(self, rank: int, monkeypatch: pytest.MonkeyPatch) -> None:
        """Have a rank end a step, in which it updates its weights, as in a process of its own."""
        taken = self.steps[rank]
        assert taken is not None
        self.weights[rank] += 1.0
        monkeypatch.setattr(variable_digest, "_variable", lambda _: self.weights[rank])
        self._digests[rank]._step_ended("run", taken)
        self.steps[rank] = taken + 1


@pytest.fixture
def ranks() -> Iterator[Ranks]:
    made = Ranks(10, 10)
    before = messages.set_sink(made.sent.extend)
    yield made
    messages.set_sink(before)
    messages._step_listeners.clear()


def asked(diff: LiveDiff, ranks: Any, name: str) -> str:
    return diff.ask(ranks, [0, 1], name)


def compared(ranks: Ranks, diff: LiveDiff, monkeypatch: pytest.MonkeyPatch) -> str:
    """Have rank 1 train ahead of rank 0; return the outcome."""
    for rank in (1, 1, 1, 0, 0, 0):
        ranks.end_step(rank, monkeypatch)
    assert [diff.take(sent) for sent in ranks.sent] == [False, True]
    assert diff.latest is not None
    return str(diff.latest["words"])


def test_ranks_are_compared_after_as_many_steps(
    ranks: Ranks, monkeypatch: pytest.MonkeyPatch
) -> None:
    diff = LiveDiff()
    assert asked(diff, ranks, "w").endswith("at the end of step 12")
    assert messages.has_step_listener()
    assert (
        compared(ranks, diff, monkeypatch) == "`w` is the same on ranks 0-1 at the end of step 12"
    )
    assert not messages.has_step_listener()


def test_the_rank_that_differs_is_named(ranks: Ranks, monkeypatch: pytest.MonkeyPatch) -> None:
    diff = LiveDiff()
    asked(diff, ranks, "w")
    ranks.weights[1][2] = 7.0
    words = compared(ranks, diff, monkeypatch)
    assert words == "`w` of rank 1 differs from rank 0 at the end of step 12"


def test_a_cell_that_ends_before_is_said(ranks: Ranks) -> None:
    diff = LiveDiff()
    assert not diff.end_cell()
    asked(diff, ranks, "w")
    assert diff.end_cell()
    assert diff.latest is not None
    assert "the cell ended before ranks 0-1" in diff.latest["words"]


def test_late_answers_to_an_earlier_request_are_left_out(ranks: Ranks) -> None:
    diff = LiveDiff()
    asked(diff, ranks, "w")
    asked(diff, ranks, "v")
    for rank in range(2):
        assert not diff.take(VariableDigested(rank, 1, "w", 12, []))
    assert not diff.take(VariableDigested(0, 2, "v", 12, [], "there is no variable v"))
    assert diff.take(VariableDigested(1, 2, "v", 12, [], "there is no variable v"))
    assert diff.latest == {"number": 2, "words": "there is no variable v on rank 0"}


def test_ranks_that_train_nothing_are_compared_as_they_are() -> None:
    diff = LiveDiff()
    assert "as it is now" in asked(diff, Ranks(None, None), "w")
    for rank in range(2):
        diff.take(VariableDigested(rank, 1, "w", None, []))
    assert diff.latest is not None
    assert diff.latest["words"] == "`w` is the same on ranks 0-1 now"
