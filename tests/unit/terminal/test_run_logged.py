"""Long commands: logged, read line by line, and ended with this process."""

from __future__ import annotations

from pathlib import Path

import pytest
from waiting import wait_until

from eai_notebook.terminal.run_logged import run_logged, tail


def test_every_line_is_heard_and_kept(tmp_path: Path) -> None:
    heard: list[str] = []
    log = tmp_path / "deep" / "log"
    status = run_logged(["sh", "-c", "echo one; echo two >&2; exit 3"], log, on_line=heard.append)
    assert status == 3
    assert heard == ["one", "two"]
    assert log.read_text() == "one\ntwo\n"


def test_a_second_command_adds_to_the_log(tmp_path: Path) -> None:
    for word in ("first", "second"):
        run_logged(["echo", word], tmp_path / "log")
    assert (tmp_path / "log").read_text() == "first\nsecond\n"


def test_leaving_by_an_exception_ends_the_grandchildren(tmp_path: Path) -> None:
    pids: list[int] = []

    def stop(line: str) -> None:
        pids.append(int(line))
        raise KeyboardInterrupt

    command = ["sh", "-c", "sleep 900 & echo $!; wait"]
    with pytest.raises(KeyboardInterrupt):
        run_logged(command, tmp_path / "log", on_line=stop)
    assert wait_until(lambda: not _runs(pids[0]))


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_tail_leaves_blank_lines_out(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("one\n\n  \ntwo\nthree\n")
    assert tail(log, 2) == "two\nthree"
    assert tail(tmp_path / "none") == ""
