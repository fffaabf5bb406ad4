"""Output of the commands: text that is somebody else's does not steer the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eai_notebook.terminal import console

if TYPE_CHECKING:
    import pytest


def test_escape_sequences_are_shown_and_not_sent(capsys: pytest.CaptureFixture[str]) -> None:
    console.out.print("run \x1b[2J\x1b]0;title\x07\r\x9b1m\nnext\tone", markup=False)
    console.fail("\x1b[8mhidden", "code\x1b[0m")
    console.note("\x1b[1A")
    said = capsys.readouterr()
    assert said.out == "run ?[2J?]0;title???1m\nnext    one\n"
    assert "?[8mhidden" in said.err
    assert "\x1b" not in said.err
