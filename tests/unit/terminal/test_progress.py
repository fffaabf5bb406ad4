"""Progress on a terminal and in a log."""

from __future__ import annotations

import io

from rich.console import Console

from eai_notebook.terminal.progress import progress


def test_log_gets_a_line_for_every_tenth() -> None:
    log = io.StringIO()
    with progress("counting", Console(file=log, width=100)) as report:
        for done in range(101):
            report(done / 100, f"step {done}")
    lines = log.getvalue().splitlines()
    assert len(lines) == 11
    assert lines[0].startswith("counting:   0%")
    assert lines[-1].startswith("counting: 100%")
    assert lines[-1].endswith("step 100")


def test_terminal_sees_title_share_and_what_is_done() -> None:
    screen = io.StringIO()
    with progress("counting", Console(file=screen, width=100, force_terminal=True)) as report:
        report(0.5, "[half] way")
    assert "counting" in screen.getvalue()
    assert "50 %" in screen.getvalue()
