from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from eai_notebook.telemetry import messages

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def own_state(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(messages, "_cell_end_hooks", [])
    before = messages.set_sink(None)
    yield
    messages.set_sink(before)


def test_messages_go_to_the_sink_and_are_dropped_without_one() -> None:
    ended = messages.RunEnded("r", 0, "done", 0.0)
    messages.emit(ended)
    heard: list[messages.Message] = []
    assert messages.set_sink(heard.extend) is None
    messages.emit(ended, ended)
    assert heard == [ended, ended]


def test_the_end_of_a_cell_is_reported_to_every_hook() -> None:
    heard: list[str] = []
    messages.on_cell_end(heard.append)
    messages.on_cell_end(heard.append)
    messages.cell_ended("failed")
    assert heard == ["failed", "failed"]
