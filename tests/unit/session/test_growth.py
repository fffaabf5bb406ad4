"""Newcomers of an elastic group: their numbers, and their part in a cell that runs already."""

from __future__ import annotations

from typing import Any

import pytest

from eai_notebook.errors import EaiError
from eai_notebook.session.cell import Cell
from eai_notebook.session.growth import Growth, describe


class Stage:
    """Stands for a group of three, of which rank 1 has died."""

    def __init__(self) -> None:
        self.size = 3
        self.joining: set[int] = set()
        self.sent: dict[int, Any] = {}

    @property
    def missing(self) -> list[int]:
        return [1]

    def execute(self, rank: int, _code: str, on_output: Any, on_reply: Any) -> None:
        self.sent[rank] = on_output, on_reply

    def answer(self, rank: int, error: Exception | None = None) -> None:
        on_output, on_reply = self.sent[rank]
        on_output("idle", {})
        on_reply(error)


def growth_of(group: Any) -> Growth:
    return Growth(group, list, None, lambda _: None, lambda _: None)


def test_newcomers_take_the_numbers_of_the_dead_first() -> None:
    group = Stage()
    growth = growth_of(group)
    assert growth.choose(None) == [1]
    assert growth.choose(3) == [1, 3, 4]
    group.joining = {1, 3}
    assert growth.choose(None) == [4]
    with pytest.raises(EaiError) as none:
        growth.choose(0)
    assert none.value.code == "group-size"
    assert describe([{"rank": 4}, {"rank": 3}], 5) == "ranks 3-4 have joined: 5 ranks"


def test_a_newcomer_that_has_not_joined_does_not_fail_the_cell() -> None:
    group = Stage()
    stage: Any = group
    cell = Cell(stage, "train()", [0, 2], {})
    group.answer(2, ConnectionError("EngineError"))
    cell.add(3)
    group.answer(0)
    list(cell.events(0.0))
    assert cell.waits_for_newcomers
    group.answer(3, NameError("model"))
    list(cell.events(0.0))
    assert cell.unfinished == []
    seen = [cell.failed]  # by rank 2
    del cell.replies[2]
    seen.append(cell.failed)
    cell.joining.clear()  # it had joined: its error is one of the cell
    assert [*seen, cell.failed] == [True, False, True]
