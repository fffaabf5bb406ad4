"""The line of `%eai`: split like a shell command; an interrupt is shown in one line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from eai_notebook.errors import EaiError
from eai_notebook.magics.parser import parse
from eai_notebook.session import Session, Watcher
from eai_notebook.session.rank_errors import in_a_line, interruption

if TYPE_CHECKING:
    from typing import Any


@pytest.mark.parametrize("path", ["'/a b/c'", '"/a b/c"', r"/a\ b/c", "/a b/c"])
def test_a_path_may_have_a_space(path: str) -> None:
    assert " ".join(parse(f"report {path}").run) == "/a b/c"


def test_a_hostfile_may_have_a_space() -> None:
    assert parse("up --hosts '/a b/hosts'").hosts == "/a b/hosts"


def test_an_open_quote_is_refused() -> None:
    with pytest.raises(EaiError, match="quotation") as refused:
        parse("report '/a b")
    assert refused.value.code == "line-invalid"


def test_an_interrupted_start_is_shown_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    class Listener(Watcher):
        last = ""

        def progress(self, words: str, *, final: bool = False) -> None:
            del final
            self.last = words

    def stop(**_: Any) -> None:
        raise KeyboardInterrupt

    listener = Listener()
    session = Session(2, watcher=listener)
    monkeypatch.setattr(session, "_bring_up", stop)
    with pytest.raises(KeyboardInterrupt) as caught:
        session.up()
    assert type(caught.value).__name__ == "KeyboardInterrupt"
    (line,) = caught.value._render_traceback_()  # type: ignore[attr-defined]
    assert "nothing is left running" in line
    assert caught.value.__suppress_context__
    assert session.state == "down"
    assert listener.last == "start stopped"


def test_an_interrupt_that_says_more_stays_as_it_is() -> None:
    stop = interruption([0, 1])
    assert in_a_line(stop, "stopped") is stop
    assert str(in_a_line(KeyboardInterrupt(), "stopped")) == "stopped"
