from __future__ import annotations

import pytest

from eai_notebook.errors import RELEASED
from eai_notebook.session.rank_errors import Reply, interruption, root_cause


def error(rank: int, at: float, ename: str, evalue: str = "") -> Reply:
    return Reply(rank, "here", at, ename, evalue, ("line 1", f"{ename}: {evalue}"))


def test_a_cell_that_went_well_has_no_error() -> None:
    assert root_cause([Reply(0, "here", 1.0), Reply(1, "here", 2.0)]) is None


@pytest.mark.parametrize("kind", sorted(RELEASED))
def test_the_cause_is_the_rank_that_failed_by_itself(kind: str) -> None:
    found = root_cause([error(0, 1.0, kind, "released"), error(1, 2.0, "ValueError", "bad row")])
    assert found is not None
    assert (type(found).__name__, str(found), found.rank) == ("ValueError", "bad row", 1)
    shown = "\n".join(found._render_traceback_())
    assert "rank 1 on here" in shown
    assert "line 1" in shown
    assert "rank 0 was waiting in a collective, and released." in shown


def test_that_a_peer_of_elastic_training_failed_is_not_the_cause() -> None:
    found = root_cause([error(0, 1.0, "PeerFailedError", "x"), error(1, 2.0, "ValueError", "bad")])
    assert found is not None
    assert found.ename == "ValueError"


def test_the_first_of_several_causes_is_named() -> None:
    found = root_cause([error(0, 2.0, "KeyError", "b"), error(1, 1.0, "ValueError", "a")])
    assert found is not None
    assert found.ename == "ValueError"
    assert "rank 0 was failing with KeyError: b." in found._render_traceback_()


def test_ranks_with_the_same_error_are_named_together() -> None:
    found = root_cause([error(rank, float(rank), "NameError", "x") for rank in range(4)])
    assert found is not None
    assert found._render_traceback_()[0].startswith("ranks 0-3 (first: rank 0 on here)")
    assert len(found._render_traceback_()) == 3


def test_ranks_stopped_because_of_the_failure_are_not_its_cause() -> None:
    found = root_cause([error(0, 1.0, "KeyboardInterrupt"), error(1, 2.0, "ValueError", "late")])
    assert found is not None
    assert found.ename == "ValueError"
    assert "rank 0 was still running, and interrupted." in found._render_traceback_()


def test_an_error_without_text_does_not_break_the_report() -> None:
    found = root_cause([error(0, 1.0, "ValueError"), error(1, 2.0, "AssertionError")])
    assert found is not None
    assert "rank 1 was failing with AssertionError." in found._render_traceback_()


def test_an_interruption_is_a_keyboard_interrupt_in_one_line() -> None:
    found = interruption([0, 1])
    assert isinstance(found, KeyboardInterrupt)
    assert type(found).__name__ == "KeyboardInterrupt"
    lines = found._render_traceback_()  # type: ignore[attr-defined]
    assert lines == [f"KeyboardInterrupt: {found}"]
    assert str(found).startswith("ranks 0-1 stopped")
